#include "cleanup.hpp"

#include "failures.hpp"

#include <addrflow/domain/ids.hpp>
#include <addrflow/workflows/names.hpp>

namespace addrflow::workflows {
namespace {

using domain::ErrorCode;

template <class Message>
Message read_input(const tempora::RawPayload& input) {
  Message request;
  if (!input.payload.metadata().empty() || !input.payload.data().empty()) {
    try {
      v1::decode_payload(input.payload, request);
    } catch (const tempora::PayloadError& error) {
      throw refusal(ErrorCode::kInvalidArgument, error.what());
    }
  }
  return request;
}

template <class Message>
Message read_request(const tempora::RawPayload& input) {
  auto request = read_input<Message>(input);
  if (request.family().empty()) request.set_family(std::string{domain::kFamilyIpv4});
  if (request.family() != domain::kFamilyIpv4 && request.family() != domain::kFamilyIpv6Pd) {
    throw refusal(ErrorCode::kInvalidArgument, "family must be \"ipv4\" or \"ipv6_pd\"");
  }
  return request;
}

// The next run does what this one could not.
tempora::ActivityOptions in_batches(std::chrono::minutes at_most) {
  tempora::ActivityOptions options;
  options.start_to_close = at_most;
  options.schedule_to_close = 6 * at_most;
  options.heartbeat = std::chrono::seconds{90};
  options.retry = tempora::RetryPolicy{.initial_interval = std::chrono::seconds{1},
                                       .maximum_interval = std::chrono::minutes{1},
                                       .non_retryable_error_types = {}};
  return options;
}

template <class Request, class Result>
tempora::Task<Result> ask(tempora::Context& context,
                          tempora::ActivityType<Request, Result> activity, Request request,
                          std::chrono::minutes at_most) {
  try {
    co_return co_await context.execute(activity, request, in_batches(at_most));
  } catch (const tempora::Failure& failure) {
    if (tempora::is_cancellation(failure)) throw;
    throw as_refusal(failure);
  }
}

}  // namespace

tempora::Task<v1::CleanupResult> CleanupStaleAddresses::run(tempora::Context& context,
                                                            tempora::RawPayload input) {
  const auto request = read_request<v1::CleanupRequest>(input);
  // Batches beat: a worker that died is noticed, and the next attempt goes on where it stood.
  co_return co_await ask(context, catalog::kCleanup, request, std::chrono::minutes{60});
}

tempora::Task<v1::CatchUpResult> CatchUpDueWork::run(tempora::Context& context,
                                                     tempora::RawPayload input) {
  const auto request = read_input<v1::CatchUpRequest>(input);
  co_return co_await ask(context, catalog::kCatchUp, request, std::chrono::minutes{10});
}

tempora::Task<v1::EmitMetricsResult> EmitLifecycleMetrics::run(tempora::Context& context,
                                                               tempora::RawPayload input) {
  const auto request = read_request<v1::EmitMetricsRequest>(input);
  co_return co_await ask(context, catalog::kEmitMetrics, request, std::chrono::minutes{4});
}

const tempora::Definition<CatchUpDueWork> kCatchUpDefinition{kCatchUpDueWork,
                                                             tempora::run(&CatchUpDueWork::run)};

const tempora::Definition<CleanupStaleAddresses> kCleanupDefinition{
    kCleanupStaleAddresses, tempora::run(&CleanupStaleAddresses::run)};

const tempora::Definition<EmitLifecycleMetrics> kEmitMetricsDefinition{
    kEmitLifecycleMetrics, tempora::run(&EmitLifecycleMetrics::run)};

}  // namespace addrflow::workflows
