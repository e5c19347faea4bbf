#include "cleanup.hpp"

#include "failures.hpp"

#include <addrflow/domain/ids.hpp>
#include <addrflow/workflows/names.hpp>

namespace addrflow::workflows {
namespace {

using domain::ErrorCode;

v1::CleanupRequest read_request(const tempora::RawPayload& input) {
  v1::CleanupRequest request;
  if (!input.payload.metadata().empty() || !input.payload.data().empty()) {
    try {
      v1::decode_payload(input.payload, request);
    } catch (const tempora::PayloadError& error) {
      throw refusal(ErrorCode::kInvalidArgument, error.what());
    }
  }
  if (request.family().empty()) request.set_family(std::string{domain::kFamilyIpv4});
  if (request.family() == domain::kFamilyIpv6Pd) {
    throw refusal(ErrorCode::kUnsupported, "family is not supported yet: ipv6_pd");
  }
  if (request.family() != domain::kFamilyIpv4) {
    throw refusal(ErrorCode::kInvalidArgument, "family must be \"ipv4\" or \"ipv6_pd\"");
  }
  return request;
}

}  // namespace

tempora::Task<v1::CleanupResult> CleanupStaleAddresses::run(tempora::Context& context,
                                                            tempora::RawPayload input) {
  const v1::CleanupRequest request = read_request(input);
  tempora::ActivityOptions options;
  options.start_to_close = std::chrono::minutes{10};  // 100,000 rows in a fraction of it (C13)
  options.schedule_to_close =
      std::chrono::hours{6};  // the next day's run does what this one could not
  options.retry = tempora::RetryPolicy{.initial_interval = std::chrono::seconds{1},
                                       .maximum_interval = std::chrono::minutes{1},
                                       .non_retryable_error_types = {}};
  try {
    co_return co_await context.execute(catalog::kCleanup, request, options);
  } catch (const tempora::Failure& failure) {
    if (tempora::is_cancellation(failure)) throw;
    throw as_refusal(failure);
  }
}

const tempora::Definition<CleanupStaleAddresses> kCleanupDefinition{
    kCleanupStaleAddresses, tempora::run(&CleanupStaleAddresses::run)};

}  // namespace addrflow::workflows
