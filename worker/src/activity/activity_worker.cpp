#include "activity_worker.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <tempora/failure.hpp>
#include <utility>

#include "converter/benign.hpp"
#include "converter/time.hpp"
#include "converter/too_large.hpp"
#include "interceptor/chain.hpp"
#include "metrics/measure.hpp"
#include "pollers/poller_hint.hpp"
#include "pollers/version.hpp"
#include "transport/codec_transport.hpp"

namespace tempora::activity {

namespace api = temporal::api::workflowservice::v1;
using pollers::Permit;

namespace {

// An answer is given up after this long if the activity has no time-out of its
// own.
constexpr std::chrono::minutes kAnswerWithoutTimeout{10};
constexpr std::chrono::seconds kShortestAnswerTime{5};
// Time-outs are the server's to decide. This long after one the activity is told, so that one which
// hangs frees its slot; earlier, its answer could overtake the server's own record of the time-out.
constexpr std::chrono::seconds kWatchdogSlack{5};

ActivityInfo info_of(const api::PollActivityTaskQueueResponse& task,
                     const std::string& task_queue) {
  ActivityInfo info;
  info.activity_id = task.activity_id();
  info.activity_type = task.activity_type().name();
  info.workflow_namespace = task.workflow_namespace();
  info.workflow_id = task.workflow_execution().workflow_id();
  info.run_id = task.workflow_execution().run_id();
  info.workflow_type = task.workflow_type().name();
  info.task_queue = task_queue;
  info.attempt = task.attempt();
  info.scheduled_time = from_proto(task.scheduled_time());
  info.current_attempt_scheduled_time = from_proto(task.current_attempt_scheduled_time());
  info.started_time = from_proto(task.started_time());
  info.schedule_to_close = from_proto(task.schedule_to_close_timeout());
  info.start_to_close = from_proto(task.start_to_close_timeout());
  info.heartbeat = from_proto(task.heartbeat_timeout());
  info.task_token = task.task_token();
  info.headers = tempora::detail::read_headers(task.header());
  return info;
}

FailureProto application_failure(std::string_view type, std::string message,
                                 bool non_retryable = false) {
  return ApplicationError{std::move(message), std::string{type}, non_retryable}.proto();
}

}  // namespace

struct ActivityWorker::Running {
  explicit Running(std::shared_ptr<TimerQueue> timers) : timers(std::move(timers)) {}
  // Most attempts end long before their time-out; without this their timers would pile up.
  ~Running() { timers->cancel(watchdog); }

  const std::shared_ptr<TimerQueue> timers;
  std::atomic<TimerQueue::Id> watchdog{0};
  std::unique_ptr<Task> task;
  Permit permit;
  bool eager = false;
  Clock::time_point began = Clock::now();
  Clock::time_point answer_until;               // the server takes no answer after this
  std::optional<Clock::duration> runs_at_most;  // from `began`
  std::shared_ptr<detail::ActivityState> state;
  std::shared_ptr<Heartbeater> heartbeater;
  std::atomic<bool> ended{false};

  // An attempt is answered once. What comes second, its end or a refused heartbeat, says nothing.
  enum class By { kNobody, kItsEnd, kHeartbeat };
  std::atomic<By> answered{By::kNobody};
  bool claim(By by) {
    By nobody = By::kNobody;
    return answered.compare_exchange_strong(nobody, by);
  }
  std::atomic<bool> half_over{false};  // of the two ends that one answered by a heartbeat has

  // The server has ended this attempt, and nobody would take its answer.
  bool too_late() const {
    return runs_at_most.has_value() && Clock::now() - began >= *runs_at_most;
  }
  bool refused = false;  // an answer could not be sent; the one that says so is on its way
};

struct ActivityWorker::Answer {
  enum class Kind { kCompleted, kFailed, kCanceled, kNone } kind = Kind::kNone;
  Payloads result;
  FailureProto failure;
};

ActivityWorker::ActivityWorker(std::shared_ptr<const pollers::CallEnvironment> environment,
                               std::shared_ptr<const ActivityRegistry> registry,
                               ActivityWorkerOptions options)
    : environment_(std::move(environment)),
      registry_(std::move(registry)),
      options_(std::move(options)),
      log_(std::make_shared<const Logger>(options_.log)),
      slots_(std::make_shared<pollers::SlotPool>(
          options_.max_concurrent,
          metrics::slot_gauges(options_.metrics, options_.namespace_, options_.task_queue,
                               "ActivityWorker"),
          pollers::gate_for(options_.resources, environment_->timers))),
      threads_(std::make_shared<pollers::ThreadPool>(options_.max_concurrent)),
      type_limits_(options_.max_by_type) {}

void ActivityWorker::start() {
  auto request = std::make_unique<api::PollActivityTaskQueueRequest>();
  request->set_namespace_(options_.namespace_);
  request->mutable_task_queue()->set_name(options_.task_queue);
  request->mutable_task_queue()->set_kind(temporal::api::enums::v1::TASK_QUEUE_KIND_NORMAL);
  request->set_identity(options_.identity);
  request->set_worker_instance_key(options_.worker_instance_key);
  pollers::write_version(options_.versioning, *request);
  if (options_.max_task_queue_per_second > 0) {
    request->mutable_task_queue_metadata()->mutable_max_tasks_per_second()->set_value(
        options_.max_task_queue_per_second);
  }
  pollers::PollGroup::Settings settings{
      .method =
          "/temporal.api.workflowservice.v1.WorkflowService/"
          "PollActivityTaskQueue",
      .request = std::move(request),
      .new_response = [] { return std::make_unique<Task>(); },
      .is_empty =
          [](const auto& answer) { return static_cast<const Task&>(answer).task_token().empty(); },
      .on_task =
          [weak = weak_from_this()](pollers::PollGroup::MessagePtr answer, Permit permit) {
            const auto self = weak.lock();
            if (self == nullptr) return;
            self->accept(std::unique_ptr<Task>{static_cast<Task*>(answer.release())},
                         std::move(permit), false);
          },
      .on_answer =
          [metrics = options_.metrics, queue = options_.task_queue,
           space = options_.namespace_](bool empty) {
            const MetricTag tags[] = {{"namespace", space}, {"task_queue", queue}};
            if (empty) metrics->count("temporal_activity_poll_no_task", 1, tags);
          },
      .on_open = metrics::poll_gauge(options_.metrics, options_.namespace_, options_.task_queue,
                                     "activity_task"),
      .hint = pollers::scaling_hint<Task>(options_.most_polls),
      .most_polls = std::min(options_.most_polls, options_.max_concurrent),
      .rate = options_.max_per_second > 0
                  ? std::make_shared<pollers::RateLimit>(options_.max_per_second)
                  : nullptr,
      .polls = std::clamp<std::size_t>(options_.polls, 1, options_.max_concurrent),
      .deadline = std::chrono::milliseconds{70'000},
      .log = options_.log,
  };
  polls_ = std::make_shared<pollers::PollGroup>(environment_, slots_, std::move(settings));
  polls_->start();
}

std::vector<Permit> ActivityWorker::reserve_eager(std::size_t wanted) {
  std::vector<Permit> permits;
  // A rate limit is enforced where tasks are polled; eager tasks would pass it
  // by.
  if (stopping_ || options_.max_per_second > 0 || options_.max_task_queue_per_second > 0)
    return permits;
  while (permits.size() < wanted) {
    std::optional<Permit> permit = slots_->try_reserve();
    if (!permit.has_value()) break;
    permits.push_back(std::move(*permit));
  }
  return permits;
}

void ActivityWorker::accept(std::unique_ptr<Task> task, Permit permit, bool eager) {
  if (abandoned_) return;
  auto running = std::make_shared<Running>(environment_->timers);
  running->permit = std::move(permit);
  running->eager = eager;
  ActivityInfo info = info_of(*task, options_.task_queue);
  const MetricTag tags[] = {{"namespace", options_.namespace_},
                            {"task_queue", options_.task_queue},
                            {"activity_type", info.activity_type}};
  options_.metrics->observe_seconds(
      "temporal_activity_schedule_to_start_latency",
      metrics::seconds_between(info.current_attempt_scheduled_time, info.started_time), tags);
  options_.metrics->count("temporal_activity_task_received", 1, tags);
  // Time-outs are counted from here on, not by the server's clock: the two may
  // differ.
  if (info.start_to_close > Duration::zero()) running->runs_at_most = info.start_to_close;
  if (info.schedule_to_close > Duration::zero()) {
    const Duration left = info.schedule_to_close - (info.started_time - info.scheduled_time);
    running->runs_at_most = std::min<Clock::duration>(running->runs_at_most.value_or(left), left);
  }
  running->answer_until =
      running->began +
      std::max<Clock::duration>(running->runs_at_most.value_or(kAnswerWithoutTimeout),
                                kShortestAnswerTime);
  running->state =
      std::make_shared<detail::ActivityState>(std::move(info), task->heartbeat_details(), log_);
  running->heartbeater = std::make_shared<Heartbeater>(
      environment_->timers, heartbeat_interval(running->state->info.heartbeat, options_.heartbeats),
      heartbeat_sender(*task, running->state),
      [state = std::weak_ptr{running->state}, attempt = std::weak_ptr{running},
       self = weak_from_this()](const HeartbeatAnswer& answer) {
        const auto alive = state.lock();
        if (alive == nullptr) return;
        const auto still = attempt.lock();
        const auto worker = self.lock();
        if (answer.refused && still != nullptr && worker != nullptr)
          worker->heartbeat_refused(still, *answer.refused);
        if (answer.cancel_requested) alive->cancel(CancelReason::kRequested);
        if (answer.paused) alive->cancel(CancelReason::kPaused);
        if (answer.reset) alive->cancel(CancelReason::kReset);
        if (answer.not_found) alive->cancel(CancelReason::kNotFound);
      });
  running->state->details_limit_bytes = options_.payload_limit_bytes;
  running->state->on_heartbeat = [beats = running->heartbeater](Payloads details) {
    beats->beat(std::move(details));
  };
  running->task = std::move(task);
  {
    const std::lock_guard lock{mutex_};
    running_.emplace(running.get(), running);
  }
  watch(running);
  type_limits_.run(running->state->info.activity_type, [self = shared_from_this(), running] {
    self->threads_->post([self, running] { self->run(running); });
  });
}

// Tells the activity that one of its time-outs has passed, although it may not
// hear of it from the server.
void ActivityWorker::watch(const std::shared_ptr<Running>& running) {
  const Clock::time_point now = Clock::now();
  std::optional<Clock::time_point> due;
  if (running->runs_at_most.has_value()) {
    due = running->began + *running->runs_at_most + kWatchdogSlack;
  }
  const Duration beat = running->state->info.heartbeat;
  if (beat > Duration::zero()) {
    const Clock::time_point silent = running->heartbeater->last_beat() + beat + kWatchdogSlack;
    due = std::min(due.value_or(silent), silent);
  }
  if (!due.has_value()) return;
  if (*due <= now) return running->state->cancel(CancelReason::kTimedOut);
  running->watchdog =
      running->timers->after(*due - now, [weak = std::weak_ptr{running}, self = weak_from_this()] {
        const auto still = weak.lock();
        const auto worker = self.lock();
        if (still != nullptr && worker != nullptr && !still->ended) worker->watch(still);
      });
}

void ActivityWorker::run(const std::shared_ptr<Running>& running) {
  if (abandoned_) return;
  const std::string& type = running->state->info.activity_type;
  Answer outcome;
  // It may have waited for others of its type, or for a thread.
  if (running->state->reasons().any()) {
    outcome = stopped(*running);
  } else if (running->too_late()) {
    running->state->log().debug("not run: its time was over before its turn came");
  } else if (const ActivityFunction* function = registry_->find(type)) {
    outcome = call_function(*running, *function);
  } else {
    count("temporal_unregistered_activity_invocation", *running->task);
    running->state->log().warn("activity type is not registered on this worker");
    outcome.kind = Answer::Kind::kFailed;
    outcome.failure = application_failure(
        "NotFoundError",
        fmt::format("activity type {} is not registered on this worker; registered: {}", type,
                    fmt::join(registry_->types(), ", ")));
  }
  type_limits_.ended(type);
  running->ended = true;
  // Who answers an activity that is left open knows nothing of the beats that are held back.
  if (outcome.kind == Answer::Kind::kNone &&
      !running->state->reasons().has(CancelReason::kNotFound)) {
    running->heartbeater->send_and_close();
  } else {
    running->heartbeater->close();
  }
  if (running->claim(Running::By::kItsEnd)) return answer(running, std::move(outcome));
  running->state->log().debug("no answer: the heartbeat that was refused has failed the attempt");
  finish(running);
}

ActivityWorker::Answer ActivityWorker::call_function(Running& running,
                                                     const ActivityFunction& function) const {
  Answer outcome;
  ActivityContext context{running.state};
  const auto began = Clock::now();
  try {
    outcome.result = tempora::detail::run_activity(options_.interceptors, function, context,
                                                   running.task->input());
    outcome.kind = Answer::Kind::kCompleted;
    check_result(running, outcome);
  } catch (const CompleteElsewhere&) {
    outcome.kind = Answer::Kind::kNone;
  } catch (const ActivityCancelled&) {
    outcome = stopped(running);
  } catch (const CanceledError&) {
    outcome = stopped(running);
  } catch (const std::exception& error) {
    outcome.kind = Answer::Kind::kFailed;
    outcome.failure = to_proto(error);
  } catch (...) {
    outcome.kind = Answer::Kind::kFailed;
    outcome.failure =
        application_failure("unknown", "the activity threw something that is no std::exception");
  }
  const MetricTag tags[] = {{"namespace", options_.namespace_},
                            {"task_queue", options_.task_queue},
                            {"activity_type", running.state->info.activity_type}};
  options_.metrics->observe_seconds("temporal_activity_execution_latency",
                                    metrics::seconds_since(began), tags);
  return outcome;
}

// The server would record a result above its limit as a failure that says less.
void ActivityWorker::check_result(const Running& running, Answer& outcome) const {
  const std::size_t bytes = outcome.result.ByteSizeLong();
  const std::size_t from = options_.payload_warning_bytes > 0 ? options_.payload_warning_bytes
                                                              : options_.payload_limit_bytes;
  if (bytes <= std::min(from, options_.payload_limit_bytes)) return;
  const std::string what =
      fmt::format("the result of activity {}", running.state->info.activity_type);
  if (bytes > options_.payload_limit_bytes) {
    outcome.kind = Answer::Kind::kFailed;
    outcome.failure = payloads_too_large(what, bytes, options_.payload_limit_bytes).proto();
  } else {
    running.state->log().warn("{}", too_large(what, bytes, options_.payload_limit_bytes));
  }
}

// The answer of an activity that stopped because it was told to. `Canceled` is
// refused by the server unless it asked.
ActivityWorker::Answer ActivityWorker::stopped(const Running& running) const {
  const CancelReasons reasons = running.state->reasons();
  Answer outcome;
  if (reasons.has(CancelReason::kRequested)) {
    outcome.kind = Answer::Kind::kCanceled;
    return outcome;
  }
  if (reasons.has(CancelReason::kNotFound)) return outcome;
  outcome.kind = Answer::Kind::kFailed;
  if (reasons.has(CancelReason::kWorkerShutdown)) {
    outcome.failure = application_failure("WorkerShutdown", "the worker is shutting down");
  } else if (reasons.has(CancelReason::kPaused)) {
    outcome.failure = application_failure("ActivityPause", "the activity was paused");
  } else if (reasons.has(CancelReason::kReset)) {
    outcome.failure = application_failure("ActivityReset", "the activity was reset");
  } else if (reasons.has(CancelReason::kTimedOut)) {
    outcome.failure =
        application_failure("ActivityTimedOut", "a time-out of the activity has passed");
  } else {
    outcome.failure = application_failure(
        "CancelledError", "the activity stopped as cancelled, but nobody asked it to");
  }
  return outcome;
}

template <class Request>
Request ActivityWorker::answer_of(const Running& running) const {
  Request request;
  request.set_task_token(running.task->task_token());
  request.set_namespace_(options_.namespace_);
  request.set_identity(options_.identity);
  pollers::write_version(options_.versioning, request);
  return request;
}

void ActivityWorker::answer(const std::shared_ptr<Running>& running, Answer answer) {
  if (abandoned_) return;
  if (running->state->reasons().has(CancelReason::kNotFound)) {
    running->state->log().debug("no answer: the server no longer knows this attempt");
    return finish(running);
  }
  switch (answer.kind) {
    case Answer::Kind::kNone: return finish(running);
    case Answer::Kind::kCompleted: {
      count_success(*running);
      auto request = answer_of<api::RespondActivityTaskCompletedRequest>(*running);
      *request.mutable_result() = std::move(answer.result);
      return send<api::RespondActivityTaskCompletedResponse>(
          running, methods::kActivityTaskCompleted, std::move(request));
    }
    case Answer::Kind::kCanceled: {
      auto request = answer_of<api::RespondActivityTaskCanceledRequest>(*running);
      return send<api::RespondActivityTaskCanceledResponse>(running, methods::kActivityTaskCanceled,
                                                            std::move(request));
    }
    case Answer::Kind::kFailed: {
      if (is_benign(answer.failure)) {
        running->state->log().debug("activity failed: {}", answer.failure.message());
      } else {
        running->state->log().warn("activity failed: {}", answer.failure.message());
        count("temporal_activity_execution_failed", *running->task);
        ++failed_;
      }
      auto request = answer_of<api::RespondActivityTaskFailedRequest>(*running);
      *request.mutable_failure() = std::move(answer.failure);
      // The newest details may not have been sent yet; the next attempt is to see
      // them.
      if (running->state->has_latest_details() && !running->refused) {
        *request.mutable_last_heartbeat_details() = running->state->latest_details();
      }
      return send<api::RespondActivityTaskFailedResponse>(running, methods::kActivityTaskFailed,
                                                          std::move(request));
    }
  }
}

// The result, or what was said of the failure, cannot be sent: the workflow hears that instead.
void ActivityWorker::answer_refused(const std::shared_ptr<Running>& running, std::string_view type,
                                    const std::string& why, bool non_retryable) {
  running->refused = true;
  Answer refused;
  refused.kind = Answer::Kind::kFailed;
  refused.failure = application_failure(type, why, non_retryable);
  answer(running, std::move(refused));
}

// The attempt would end with a time-out that says nothing of it. It fails at once, as if the server
// had refused the details, and the activity is told to stop: nobody waits for its answer any more.
void ActivityWorker::heartbeat_refused(const std::shared_ptr<Running>& running,
                                       FailureProto failure) {
  if (abandoned_ || !running->claim(Running::By::kHeartbeat)) return;
  running->state->log().warn("activity failed, its heartbeat cannot be sent: {}",
                             failure.message());
  count("temporal_activity_execution_failed", *running->task);
  ++failed_;
  auto request = answer_of<api::RespondActivityTaskFailedRequest>(*running);
  *request.mutable_failure() = std::move(failure);
  running->refused = true;
  send<api::RespondActivityTaskFailedResponse>(running, methods::kActivityTaskFailed,
                                               std::move(request));
  running->state->cancel(CancelReason::kNotFound);
}

CallPlan ActivityWorker::answer_plan(const Running& running) {
  const auto left =
      std::chrono::ceil<std::chrono::milliseconds>(running.answer_until - Clock::now());
  return {.budget = std::max<std::chrono::milliseconds>(left, kShortestAnswerTime),
          .max_attempts = 0,
          .retry_deadline_exceeded = true};
}

template <class Response, class Request>
void ActivityWorker::send(const std::shared_ptr<Running>& running, std::string_view method,
                          Request request) {
  pollers::call_retrying<Response>(
      *environment_, method, std::move(request), answer_plan(*running),
      [self = shared_from_this(), running](CallStatus status, const Response&) {
        if (!running->refused && is_message_too_large(status)) {
          return self->answer_refused(running, "PayloadsTooLarge", status.message, true);
        }
        if (!running->refused && is_refused_by_codec(status)) {
          return self->answer_refused(running, "CodecError", status.message, false);
        }
        if (!running->refused && is_invalid_text(status)) {
          return self->answer_refused(running, "InvalidText", status.message, true);
        }
        if (status.code == grpc_code::kNotFound) {
          running->state->log().debug("answer not taken, the attempt is over: {}", status.message);
        } else if (!status.ok()) {
          running->state->log().warn("answer not taken, code {}: {}", status.code, status.message);
        }
        self->finish(running);
      });
}

void ActivityWorker::finish(const std::shared_ptr<Running>& running) {
  // Answered by its heartbeat, it is over when that call and the activity itself are.
  if (running->answered == Running::By::kHeartbeat && !running->half_over.exchange(true)) return;
  {
    const std::lock_guard lock{mutex_};
    running_.erase(running.get());
  }
  ++processed_;
  running->permit.release();
}

SendHeartbeat ActivityWorker::heartbeat_sender(
    const Task& task, const std::weak_ptr<detail::ActivityState>& state) const {
  return [environment = environment_, token = task.task_token(), space = options_.namespace_,
          identity = options_.identity, state, away = std::make_shared<std::atomic<bool>>(false)](
             Payloads details, std::chrono::milliseconds deadline,
             std::function<void(std::optional<HeartbeatAnswer>)> done) {
    api::RecordActivityTaskHeartbeatRequest request;
    request.set_task_token(token);
    request.set_namespace_(space);
    request.set_identity(identity);
    *request.mutable_details() = std::move(details);
    const CallPlan once{.attempt_deadline = deadline, .budget = deadline, .max_attempts = 1};
    pollers::call_retrying<api::RecordActivityTaskHeartbeatResponse>(
        *environment, methods::kActivityHeartbeat, std::move(request), once,
        [done = std::move(done), state, away](
            CallStatus status, const api::RecordActivityTaskHeartbeatResponse& answer) {
          if (status.code == grpc_code::kNotFound) return done(HeartbeatAnswer{.not_found = true});
          if (is_message_too_large(status)) {
            return done(HeartbeatAnswer{
                .refused = application_failure("PayloadsTooLarge", status.message, true)});
          }
          // Its keys may be back soon, as a server may: the beat is repeated.
          if (is_refused_by_codec(status)) {
            const auto alive = state.lock();
            if (!away->exchange(true) && alive != nullptr)
              alive->log().warn("heartbeats cannot be sent: {}", status.message);
          }
          if (!status.ok()) return done(std::nullopt);
          *away = false;
          done(HeartbeatAnswer{.cancel_requested = answer.cancel_requested(),
                               .paused = answer.activity_paused(),
                               .reset = answer.activity_reset()});
        });
  };
}

void ActivityWorker::count(std::string_view name, const Task& task) const {
  const MetricTag tags[] = {{"namespace", options_.namespace_},
                            {"task_queue", options_.task_queue},
                            {"activity_type", task.activity_type().name()},
                            {"workflow_type", task.workflow_type().name()}};
  options_.metrics->count(name, 1, tags);
}

void ActivityWorker::count_success(const Running& running) const {
  const MetricTag tags[] = {{"namespace", options_.namespace_},
                            {"task_queue", options_.task_queue},
                            {"activity_type", running.task->activity_type().name()}};
  options_.metrics->observe_seconds(
      "temporal_activity_succeed_endtoend_latency",
      metrics::seconds_between(running.state->info.scheduled_time, metrics::wall_clock()), tags);
}

pollers::TaskNumbers ActivityWorker::numbers() const {
  return {.slots = slots_->capacity(),
          .used = slots_->used(),
          .polls = polls_ == nullptr ? 0 : polls_->open(),
          .processed = processed_,
          .failed = failed_};
}

void ActivityWorker::stop_polling() {
  stopping_ = true;
  if (polls_ != nullptr) polls_->stop();
}

void ActivityWorker::cancel_polls() {
  stop_polling();
  if (polls_ != nullptr) polls_->cancel_open();
}

bool ActivityWorker::wait_polls_closed(Clock::time_point until) {
  const bool closed = polls_ == nullptr || polls_->wait_closed(until);
  slots_->close();
  return closed;
}

bool ActivityWorker::wait_idle(Clock::time_point until) { return slots_->wait_idle(until); }

void ActivityWorker::cancel_running(CancelReason reason) {
  std::vector<std::shared_ptr<Running>> running;
  {
    const std::lock_guard lock{mutex_};
    for (const auto& [key, weak] : running_) {
      if (auto alive = weak.lock()) running.push_back(std::move(alive));
    }
  }
  for (const auto& each : running) each->state->cancel(reason);
}

bool ActivityWorker::stop_threads(Clock::time_point until) {
  type_limits_.clear();
  return threads_->stop(until);
}

void ActivityWorker::abandon() {
  abandoned_ = true;
  cancel_polls();
  slots_->close();
  cancel_running(CancelReason::kNotFound);
}

}  // namespace tempora::activity
