#include "local_runner.hpp"

#include "converter/benign.hpp"
#include "converter/time.hpp"
#include "converter/too_large.hpp"
#include "interceptor/chain.hpp"
#include "metrics/measure.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <tempora/failure.hpp>
#include <utility>
#include <vector>

namespace tempora::activity {

namespace enums = temporal::api::enums::v1;
using engine::LocalResult;

namespace {

FailureProto time_out_failure(enums::TimeoutType type) {
  FailureProto failure;
  failure.set_message(type == enums::TIMEOUT_TYPE_START_TO_CLOSE
                          ? "the attempt took longer than start_to_close"
                          : "the activity took longer than schedule_to_close");
  failure.set_source("tempora");
  failure.mutable_timeout_failure_info()->set_timeout_type(type);
  return failure;
}

}  // namespace

// One order. `mutex` guards everything below it.
class LocalRunner::Call {
 public:
  Call(engine::LocalRequest given, const LocalOwner& owner, Done done)
      : request(std::move(given)), owner(owner), done(std::move(done)) {}

  const engine::LocalRequest request;
  const LocalOwner owner;
  const Clock::time_point began = Clock::now();

  std::mutex mutex;
  Done done;  // null once the end was reported
  int attempt = 0;
  bool running = false;  // `attempt` is under way; else the call pauses
  bool cancelled = false;
  bool abandoned = false;  // nobody waits for the end: the attempt under way is the last
  std::shared_ptr<detail::ActivityState> state;  // of the attempt under way
  // 0: none. An ended call leaves none behind: they could be many and far away.
  TimerQueue::Id attempt_timer = 0;
  TimerQueue::Id total_timer = 0;
  TimerQueue::Id pause_timer = 0;

  // Of the time for all attempts.
  Duration left() const {
    return request.schedule_to_close - std::chrono::duration_cast<Duration>(Clock::now() - began);
  }
};

LocalRunner::LocalRunner(std::shared_ptr<const ActivityRegistry> registry,
                         std::shared_ptr<TimerQueue> timers, Options options)
    : registry_(std::move(registry)),
      timers_(std::move(timers)),
      options_(std::move(options)),
      log_(std::make_shared<const Logger>(options_.log)),
      slots_(std::make_shared<pollers::SlotPool>(
          options_.max_concurrent,
          metrics::slot_gauges(options_.metrics, options_.namespace_, options_.task_queue,
                               "LocalActivityWorker"))),
      threads_(std::make_shared<pollers::ThreadPool>(options_.max_concurrent)) {}

std::shared_ptr<LocalRunner::Call> LocalRunner::start(engine::LocalRequest request,
                                                      const LocalOwner& owner, Done done) {
  auto call = std::make_shared<Call>(std::move(request), owner, std::move(done));
  call->attempt = call->request.attempt - 1;
  call->cancelled = call->request.cancelled;
  {
    const std::lock_guard lock{mutex_};
    calls_.emplace(call.get(), call);
  }
  if (call->request.schedule_to_close > Duration::zero()) {
    const std::lock_guard lock{call->mutex};
    arm(call->total_timer, call->request.schedule_to_close, call, 0);
  }
  begin_attempt(call);
  return call;
}

// Both under the lock of the call that has the timer.
void LocalRunner::arm(TimerQueue::Id& timer, Duration wait, const std::shared_ptr<Call>& call,
                      int attempt) {
  timer = timers_->after(wait, [self = weak_from_this(), weak = std::weak_ptr{call}, attempt] {
    const auto runner = self.lock();
    const auto late = weak.lock();
    if (runner != nullptr && late != nullptr) runner->time_out(late, attempt);
  });
}

void LocalRunner::disarm(TimerQueue::Id& timer) {
  if (timer != 0) timers_->cancel(std::exchange(timer, 0));
}

void LocalRunner::begin_attempt(const std::shared_ptr<Call>& call) {
  int attempt = 0;
  std::shared_ptr<detail::ActivityState> state;
  {
    const std::lock_guard lock{call->mutex};
    if (call->done == nullptr) return;
    if (!call->cancelled) {
      ActivityInfo info;
      info.activity_id = call->request.activity_id;
      info.activity_type = call->request.activity_type;
      info.workflow_namespace = options_.namespace_;
      info.workflow_id = call->owner.workflow_id;
      info.run_id = call->owner.run_id;
      info.workflow_type = call->owner.workflow_type;
      info.task_queue = options_.task_queue;
      info.attempt = attempt = ++call->attempt;
      info.scheduled_time = call->request.scheduled_time;
      info.current_attempt_scheduled_time = info.started_time = metrics::wall_clock();
      info.headers = call->request.headers;
      info.schedule_to_close = call->request.schedule_to_close;
      info.start_to_close = call->request.start_to_close;
      state = std::make_shared<detail::ActivityState>(std::move(info), Payloads{}, log_);
      call->state = state;
      call->running = true;
    }
  }
  if (state == nullptr) {  // cancelled before it ran
    LocalResult result;
    result.kind = LocalResult::Kind::kCancelled;
    return finish(call, std::move(result));
  }
  threads_->post([self = shared_from_this(), call, attempt, state] {
    const auto slot = self->slots_->try_reserve();  // there is one for each thread
    self->run(call, attempt, state);
  });
}

// False if this attempt was over before a thread was free for it.
bool LocalRunner::take_turn(const std::shared_ptr<Call>& call, int attempt) {
  const std::lock_guard lock{call->mutex};
  if (call->done == nullptr || !call->running || call->attempt != attempt) return false;
  // The wait for a thread does not count.
  if (call->request.start_to_close > Duration::zero())
    arm(call->attempt_timer, call->request.start_to_close, call, attempt);
  return true;
}

void LocalRunner::run(const std::shared_ptr<Call>& call, int attempt,
                      const std::shared_ptr<detail::ActivityState>& state) {
  if (!take_turn(call, attempt)) return;
  const auto began = Clock::now();
  LocalResult result = call_function(*call, state);
  // Stopped, but nobody from the workflow had asked: that is a failure like any other.
  if (result.kind == LocalResult::Kind::kCancelled &&
      !state->reasons().has(CancelReason::kRequested)) {
    result.kind = LocalResult::Kind::kFailed;
    result.failure =
        ApplicationError{"the activity stopped as cancelled", "CancelledError"}.proto();
  }
  const MetricTag tags[] = {{"namespace", options_.namespace_},
                            {"task_queue", options_.task_queue},
                            {"activity_type", call->request.activity_type}};
  options_.metrics->observe_seconds("temporal_local_activity_execution_latency",
                                    metrics::seconds_since(began), tags);
  attempt_ended(call, attempt, std::move(result));
}

LocalResult LocalRunner::call_function(const Call& call,
                                       const std::shared_ptr<detail::ActivityState>& state) const {
  LocalResult result;
  result.kind = LocalResult::Kind::kFailed;
  try {
    ActivityContext context{state};
    if (state->reasons().any()) throw ActivityCancelled{};
    const ActivityFunction* function = registry_->find(call.request.activity_type);
    if (function == nullptr) {
      throw ApplicationError{
          fmt::format("activity type {} is not registered on this worker; registered: {}",
                      call.request.activity_type, fmt::join(registry_->types(), ", ")),
          "NotFoundError", true};
    }
    result.result =
        detail::run_activity(options_.interceptors, *function, context, call.request.input);
    result.kind = LocalResult::Kind::kCompleted;
    // Whether there is room for the rest of its marker too, the run knows.
    if (const std::size_t bytes = result.result.ByteSizeLong();
        bytes > options_.payload_limit_bytes) {
      throw payloads_too_large("the result", bytes, options_.payload_limit_bytes);
    }
  } catch (const CompleteElsewhere&) {
    result.kind = LocalResult::Kind::kFailed;
    result.failure =
        ApplicationError{"a local activity cannot be completed from elsewhere", "Misuse", true}
            .proto();
  } catch (const ActivityCancelled&) {
    result.kind = LocalResult::Kind::kCancelled;
  } catch (const CanceledError&) {
    result.kind = LocalResult::Kind::kCancelled;
  } catch (const std::exception& error) {
    result.kind = LocalResult::Kind::kFailed;
    result.failure = to_proto(error);
  } catch (...) {
    result.kind = LocalResult::Kind::kFailed;
    result.failure = to_proto(std::current_exception());
  }
  return result;
}

// `attempt` 0: the time for all of them is over.
void LocalRunner::time_out(const std::shared_ptr<Call>& call, int attempt) {
  std::shared_ptr<detail::ActivityState> state;
  {
    const std::lock_guard lock{call->mutex};
    if (call->done == nullptr) return;
    if (attempt != 0 && (!call->running || call->attempt != attempt)) return;
    state = call->state;
  }
  LocalResult result;
  result.kind = LocalResult::Kind::kFailed;
  // The end is on record before the activity is told: what it still returns comes too late.
  if (attempt == 0) {
    result.failure = time_out_failure(enums::TIMEOUT_TYPE_SCHEDULE_TO_CLOSE);
    finish(call, std::move(result));
  } else {
    result.failure = time_out_failure(enums::TIMEOUT_TYPE_START_TO_CLOSE);
    attempt_ended(call, attempt, std::move(result));
  }
  if (state != nullptr) state->cancel(CancelReason::kTimedOut);
}

void LocalRunner::attempt_ended(const std::shared_ptr<Call>& call, int attempt,
                                LocalResult result) {
  std::optional<Duration> pause;
  {
    const std::lock_guard lock{call->mutex};
    // It timed out earlier: that was its end.
    if (call->done == nullptr || !call->running || call->attempt != attempt) return;
    call->running = false;
    disarm(call->attempt_timer);
    const bool goes_on = !call->cancelled && !call->abandoned;
    if (result.kind == LocalResult::Kind::kFailed && goes_on)
      pause = pause_before_next(*call, result);
  }
  if (!pause.has_value()) return finish(call, std::move(result));
  log_->debug("local activity {} failed in attempt {} and is tried again: {}",
              call->request.activity_type, attempt, result.failure.message());
  if (options_.pauses_are_timers || *pause > call->request.local_retry_threshold) {
    result.backoff = pause;
    return finish(call, std::move(result));
  }
  const std::lock_guard lock{call->mutex};
  if (call->done == nullptr) return;  // it was cancelled meanwhile, or has timed out
  call->pause_timer = timers_->after(*pause, [self = weak_from_this(), weak = std::weak_ptr{call}] {
    const auto runner = self.lock();
    const auto next = weak.lock();
    if (runner != nullptr && next != nullptr) runner->begin_attempt(next);
  });
}

// Nothing: it is not tried again. The rules are those of the server for other activities.
std::optional<Duration> LocalRunner::pause_before_next(const Call& call,
                                                       const LocalResult& result) const {
  const RetryPolicy& policy = call.request.retry;
  const auto& failure = result.failure;
  const auto& application = failure.application_failure_info();
  if (policy.maximum_attempts > 0 && call.attempt >= policy.maximum_attempts) return std::nullopt;
  if (failure.has_application_failure_info()) {
    if (application.non_retryable()) return std::nullopt;
    if (std::ranges::find(policy.non_retryable_error_types, application.type()) !=
        policy.non_retryable_error_types.end()) {
      return std::nullopt;
    }
  }
  const Duration most = policy.maximum_interval > Duration::zero() ? policy.maximum_interval
                                                                   : policy.initial_interval * 100;
  const double wanted = static_cast<double>(policy.initial_interval.count()) *
                        std::pow(policy.backoff_coefficient, call.attempt - 1);
  Duration pause = wanted >= static_cast<double>(most.count())
                       ? most
                       : Duration{static_cast<Duration::rep>(wanted)};
  if (application.has_next_retry_delay()) pause = from_proto(application.next_retry_delay());
  if (call.request.schedule_to_close > Duration::zero() && pause >= call.left())
    return std::nullopt;
  return pause;
}

void LocalRunner::finish(const std::shared_ptr<Call>& call, LocalResult result) {
  Done done;
  {
    const std::lock_guard lock{call->mutex};
    done = std::exchange(call->done, nullptr);
    result.attempt = std::max(call->attempt, call->request.attempt);
    call->running = false;
    for (TimerQueue::Id* timer : {&call->attempt_timer, &call->total_timer, &call->pause_timer})
      disarm(*timer);
  }
  if (done == nullptr) return;
  {
    const std::lock_guard lock{mutex_};
    calls_.erase(call.get());
  }
  count("temporal_local_activity_total", *call);
  ++processed_;
  if (result.kind == LocalResult::Kind::kFailed) {
    if (!is_benign(result.failure)) {
      count("temporal_local_activity_execution_failed", *call);
      ++failed_;
    }
  } else if (result.kind == LocalResult::Kind::kCancelled) {
    count("temporal_local_activity_execution_cancelled", *call);
    result.failure = CanceledError{"local activity canceled"}.proto();
  } else {
    const MetricTag tags[] = {{"namespace", options_.namespace_},
                              {"task_queue", options_.task_queue},
                              {"activity_type", call->request.activity_type}};
    options_.metrics->observe_seconds("temporal_local_activity_succeed_endtoend_latency",
                                      metrics::seconds_since(call->began), tags);
  }
  result.seq = call->request.seq;
  result.elapsed = std::chrono::duration_cast<Duration>(Clock::now() - call->began);
  done(std::move(result));
}

void LocalRunner::cancel(const std::shared_ptr<Call>& call) {
  std::shared_ptr<detail::ActivityState> state;
  {
    const std::lock_guard lock{call->mutex};
    if (call->done == nullptr || call->cancelled) return;
    call->cancelled = true;
    if (call->running) state = call->state;
  }
  if (state != nullptr) return state->cancel(CancelReason::kRequested);
  LocalResult result;  // it pauses between two attempts
  result.kind = LocalResult::Kind::kCancelled;
  finish(call, std::move(result));
}

void LocalRunner::abandon(const std::shared_ptr<Call>& call) {
  {
    const std::lock_guard lock{call->mutex};
    if (call->done == nullptr || call->abandoned) return;
    call->abandoned = true;
    if (call->running) return;
  }
  LocalResult result;  // it pauses between two attempts
  result.kind = LocalResult::Kind::kCancelled;
  finish(call, std::move(result));
}

bool LocalRunner::busy() const {
  const std::lock_guard lock{mutex_};
  return !calls_.empty();
}

void LocalRunner::cancel_all(CancelReason reason) {
  std::vector<std::shared_ptr<Call>> calls;
  {
    const std::lock_guard lock{mutex_};
    for (const auto& [key, call] : calls_) calls.push_back(call);
  }
  for (const auto& call : calls) {
    std::shared_ptr<detail::ActivityState> state;
    {
      const std::lock_guard lock{call->mutex};
      state = call->state;
    }
    if (state != nullptr) state->cancel(reason);
  }
}

pollers::TaskNumbers LocalRunner::numbers() const {
  return {.slots = slots_->capacity(),
          .used = slots_->used(),
          .processed = processed_,
          .failed = failed_};
}

void LocalRunner::count(std::string_view name, const Call& call) const {
  const MetricTag tags[] = {{"namespace", options_.namespace_},
                            {"task_queue", options_.task_queue},
                            {"activity_type", call.request.activity_type}};
  options_.metrics->count(name, 1, tags);
}

}  // namespace tempora::activity
