// Activities that run inside the worker that runs the workflow, without a task of their own: for
// work of milliseconds. What a lost worker had under way is done again by another one.
#pragma once

#include <optional>
#include <string>
#include <tempora/activity_type.hpp>
#include <tempora/time.hpp>

namespace tempora {

// What is not set is taken from the activity type's own options. A zero duration means "not set";
// one of `schedule_to_close` and `start_to_close` must be set in the end.
struct LocalActivityOptions {
  Duration schedule_to_close{};  // over all attempts
  Duration start_to_close{};     // of one attempt
  std::optional<RetryPolicy> retry{};
  std::optional<CancellationType> cancellation{};
  // A longer pause before the next attempt is a timer of the workflow, which a restart survives.
  Duration local_retry_threshold{std::chrono::minutes{1}};
  std::string summary;  // shown in the Temporal UI
};

}  // namespace tempora
