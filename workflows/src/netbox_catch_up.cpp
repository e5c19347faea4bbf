#include "netbox_catch_up.hpp"

#include "failures.hpp"

#include <addrflow/workflows/netbox.hpp>

namespace addrflow::workflows {
namespace {

v1::NetboxCatchUpRequest read_request(const tempora::RawPayload& input) {
  v1::NetboxCatchUpRequest request;
  if (input.payload.metadata().empty() && input.payload.data().empty()) return request;
  try {
    v1::decode_payload(input.payload, request);
  } catch (const tempora::PayloadError& error) {
    throw refusal(domain::ErrorCode::kInvalidArgument, error.what());
  }
  return request;
}

}  // namespace

tempora::Task<v1::NetboxCatchUpResult> CatchUpNetbox::run(tempora::Context& context,
                                                          tempora::RawPayload input) {
  const v1::NetboxCatchUpRequest request = read_request(input);
  tempora::ActivityOptions options;
  options.task_queue = catalog::kNetboxQueue;
  // One list of requests may outlast the budget of the whole by its own time limit.
  options.start_to_close = std::chrono::minutes{5};
  options.schedule_to_close = std::chrono::minutes{10};  // the next run does what is left
  options.retry = tempora::RetryPolicy{.initial_interval = std::chrono::seconds{1},
                                       .maximum_interval = std::chrono::seconds{30},
                                       .non_retryable_error_types = {}};
  try {
    co_return co_await context.execute(catalog::kNetboxCatchUp, request, options);
  } catch (const tempora::Failure& failure) {
    if (tempora::is_cancellation(failure)) throw;
    throw as_refusal(failure);
  }
}

const tempora::Definition<CatchUpNetbox> kNetboxCatchUpDefinition{
    kCatchUpNetbox, tempora::run(&CatchUpNetbox::run)};

}  // namespace addrflow::workflows
