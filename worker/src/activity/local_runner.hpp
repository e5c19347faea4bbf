// Runs local activities: on threads of the worker, with retries and time-outs of its own, since the
// server knows nothing of them.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <tempora/activity.hpp>
#include <tempora/interceptor.hpp>
#include <tempora/metrics.hpp>
#include <unordered_map>

#include "../engine/local.hpp"
#include "../pollers/poll_group.hpp"
#include "../pollers/slots.hpp"
#include "../pollers/thread_pool.hpp"
#include "../transport/timer_queue.hpp"
#include "activity_registry.hpp"
#include "activity_state.hpp"

namespace tempora::activity {

// For whom an activity runs.
struct LocalOwner {
  std::string workflow_id;
  std::string run_id;
  std::string workflow_type;
};

class LocalRunner : public std::enable_shared_from_this<LocalRunner> {
 public:
  using Clock = TimerQueue::Clock;
  using Done = std::function<void(engine::LocalResult)>;
  class Call;

  struct Options {
    std::string namespace_;
    std::string task_queue;
    std::size_t max_concurrent = 100;
    // Every pause between two attempts is the workflow's timer, not only the long ones.
    bool pauses_are_timers = false;
    std::size_t payload_limit_bytes = std::size_t{2} << 20;  // of a result
    Logger log;
    std::vector<std::shared_ptr<ActivityInterceptor>> interceptors;
    std::shared_ptr<Metrics> metrics;
  };

  LocalRunner(std::shared_ptr<const ActivityRegistry> registry, std::shared_ptr<TimerQueue> timers,
              Options options);

  // `done` is called once, on any thread.
  std::shared_ptr<Call> start(engine::LocalRequest request, const LocalOwner& owner, Done done);
  // The end comes through `done`, when the activity has really stopped.
  void cancel(const std::shared_ptr<Call>& call);
  // Nobody waits for its end any more: the attempt under way goes on, and is the last one. Without
  // this a call that always fails, and has no limit of attempts or time, would be tried for ever.
  void abandon(const std::shared_ptr<Call>& call);

  // Tells every activity to stop. What ends from now on is still reported.
  void cancel_all(CancelReason reason);
  // Whether one runs, or pauses between two attempts.
  bool busy() const;
  bool stop(Clock::time_point until) { return threads_->stop(until); }

  // For the worker's heartbeats. A task is one order with all its attempts.
  pollers::TaskNumbers numbers() const;

 private:
  void begin_attempt(const std::shared_ptr<Call>& call);
  void run(const std::shared_ptr<Call>& call, int attempt,
           const std::shared_ptr<detail::ActivityState>& state);
  bool take_turn(const std::shared_ptr<Call>& call, int attempt);
  engine::LocalResult call_function(const Call& call,
                                    const std::shared_ptr<detail::ActivityState>& state) const;
  void arm(TimerQueue::Id& timer, Duration wait, const std::shared_ptr<Call>& call, int attempt);
  void disarm(TimerQueue::Id& timer);
  void attempt_ended(const std::shared_ptr<Call>& call, int attempt, engine::LocalResult result);
  void time_out(const std::shared_ptr<Call>& call, int attempt);
  void finish(const std::shared_ptr<Call>& call, engine::LocalResult result);
  std::optional<Duration> pause_before_next(const Call& call,
                                            const engine::LocalResult& result) const;
  void count(std::string_view name, const Call& call) const;

  const std::shared_ptr<const ActivityRegistry> registry_;
  const std::shared_ptr<TimerQueue> timers_;
  const Options options_;
  const std::shared_ptr<const Logger> log_;
  const std::shared_ptr<pollers::SlotPool> slots_;  // of attempts that have a thread
  const std::shared_ptr<pollers::ThreadPool> threads_;
  std::atomic<std::int32_t> processed_{0};
  std::atomic<std::int32_t> failed_{0};
  mutable std::mutex mutex_;
  // Those that have not ended; nobody else need hold them.
  std::unordered_map<const Call*, std::shared_ptr<Call>> calls_;
};

}  // namespace tempora::activity
