// An activity as a workflow sees it: a name, the types that go in and out, and how patient to be.
// No implementation.
#pragma once

#include <optional>
#include <string>
#include <tempora/time.hpp>
#include <vector>

namespace tempora {

struct RetryPolicy {
  Duration initial_interval{std::chrono::seconds{1}};
  double backoff_coefficient = 2.0;
  Duration maximum_interval{};  // zero: 100 times the initial interval
  int maximum_attempts = 0;     // zero: no limit
  std::vector<std::string> non_retryable_error_types;
};

// When a cancelled activity's future becomes ready.
enum class CancellationType {
  kTryCancel,                  // at once, as cancelled; the activity is asked to stop
  kWaitCancellationCompleted,  // when the activity has really ended, however it ended
  // At once, as cancelled; the activity is not told. A local one ends its attempt in its worker,
  // also when the run has ended there or is no longer cached, and is not tried again. (One that was
  // never cancelled is asked to stop when its run ends or leaves the cache.)
  kAbandon,
};

struct Priority {
  int key = 0;                // 1 (first) to 5 (last); zero: the server's default
  std::string fairness_key;   // tasks of one key share its weight of the queue
  float fairness_weight = 0;  // zero: 1
};

// A zero duration means "not set". One of `schedule_to_close` and `start_to_close` must be set.
struct ActivityOptions {
  std::string task_queue;  // empty: the workflow's own
  Duration schedule_to_close{};
  Duration schedule_to_start{};
  Duration start_to_close{};
  Duration heartbeat{};
  std::optional<RetryPolicy> retry{};
  std::optional<CancellationType> cancellation{};  // not set: kTryCancel
  std::string summary;                             // shown in the Temporal UI
  std::string activity_id;                         // empty: the runtime's counter
  // May start in this process without a round trip; not set: it may.
  std::optional<bool> eager{};
  Priority priority{};
};

template <class I, class O>
struct ActivityType {
  std::string name;
  ActivityOptions defaults{};
};

// `overrides` on top of `defaults`: a field that has its default value in `overrides` does not
// override. Cancellation, eager start and retry policy do as soon as they are set.
ActivityOptions merge(ActivityOptions defaults, const ActivityOptions& overrides);

}  // namespace tempora
