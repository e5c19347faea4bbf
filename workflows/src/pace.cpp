#include "pace.hpp"

#include <addrflow/catalog/catalog.hpp>
#include <addrflow/domain/errors.hpp>
#include <algorithm>

namespace addrflow::workflows {
namespace {

std::vector<std::string> refusals() {
  std::vector<std::string> names;
  for (const domain::ErrorInfo& error : domain::all_errors()) {
    if (!error.retryable) names.emplace_back(error.name);
  }
  return names;
}

tempora::RetryPolicy for_ever() {
  static const std::vector<std::string> kRefusals = refusals();
  return {.initial_interval = milliseconds{200},
          .backoff_coefficient = 2.0,
          .maximum_interval = std::chrono::seconds{10},
          .maximum_attempts = 0,
          .non_retryable_error_types = kRefusals};
}

}  // namespace

milliseconds Pace::effect_retry(int attempts) const {
  const milliseconds largest = or_default(wire_.effect_retry_max_ms(), 60'000);
  milliseconds wait = or_default(wire_.effect_retry_ms(), 1'000);
  for (int i = 1; i < attempts && wait < largest; ++i) wait *= 2;
  return std::min(wait, largest);
}

tempora::ActivityOptions Pace::ledger(const std::string& tenant) const {
  tempora::ActivityOptions options;
  options.start_to_close = or_default(wire_.ledger_timeout_ms(), 10'000);
  options.retry = for_ever();
  options.priority.fairness_key = tenant;
  return options;
}

tempora::ActivityOptions Pace::plan(const std::string& tenant) const {
  tempora::ActivityOptions options = ledger(tenant);
  options.retry->maximum_attempts = 3;
  return options;
}

tempora::ActivityOptions Pace::effect(const std::string& system, const std::string& tenant) const {
  tempora::ActivityOptions options;
  options.retry = tempora::RetryPolicy{.maximum_attempts = 1, .non_retryable_error_types = {}};
  options.priority.fairness_key = tenant;
  if (system == "netbox") {
    options.task_queue = catalog::kNetboxQueue;
    options.start_to_close = or_default(wire_.netbox_timeout_ms(), 30'000);
  } else if (system == "radius") {
    options.task_queue = catalog::kRadiusQueue;
    options.start_to_close = or_default(wire_.radius_timeout_ms(), 30'000);
  } else {
    options.start_to_close = or_default(wire_.ledger_timeout_ms(), 10'000);
  }
  return options;
}

tempora::ActivityOptions Pace::compose(const std::string& tenant) const {
  tempora::ActivityOptions options;
  options.task_queue = catalog::kComposeQueue;
  options.start_to_close = or_default(wire_.compose_timeout_ms(), 600'000);
  options.heartbeat = std::chrono::seconds{10};
  options.retry = for_ever();
  // What was sent to another workflow may still happen: its end is waited for before anything is
  // undone.
  options.cancellation = tempora::CancellationType::kWaitCancellationCompleted;
  options.priority.fairness_key = tenant;
  return options;
}

}  // namespace addrflow::workflows
