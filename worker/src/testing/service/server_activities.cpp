// Activities: attempts, retries, time-outs, and what is made to go wrong.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "converter/time.hpp"
#include "testing/service/server.hpp"

namespace tempora::testing {

namespace {

using State = Activity::State;

FailureProto timeout_failure(enums::TimeoutType type) {
  FailureProto failure;
  failure.set_message("activity " + enums::TimeoutType_Name(type).substr(13) + " timeout");
  failure.set_source("Server");
  failure.mutable_timeout_failure_info()->set_timeout_type(type);
  return failure;
}

}  // namespace

void Server::poll_activity_task(const CallPtr& call) {
  const auto& queue = call->request<api::PollActivityTaskQueueRequest>().task_queue();
  auto& polled = activity_queues_[queue.name()];
  polled.polls.push_back(call);
  polled.attended = true;
}

void Server::schedule_activity(
    const RunPtr& run, const HistoryEvent& event,
    const temporal::api::command::v1::ScheduleActivityTaskCommandAttributes& order) {
  const std::int64_t id = event.event_id();
  Activity& activity = run->activities[id];
  activity.order = order;
  activity.scheduled_event = id;
  activity.scheduled = activity.attempt_scheduled = now_;
  const auto limit = [&](const google::protobuf::Duration& duration, enums::TimeoutType type,
                         std::optional<Alarm>& alarm) {
    if (from_proto(duration) <= Duration::zero()) return;
    alarm = after(from_proto(duration), [this, run, id, type] {
      if (run->activities.contains(id)) attempt_failed(run, id, timeout_failure(type), type);
    });
  };
  limit(order.schedule_to_close_timeout(), enums::TIMEOUT_TYPE_SCHEDULE_TO_CLOSE,
        activity.schedule_to_close);
  limit(order.schedule_to_start_timeout(), enums::TIMEOUT_TYPE_SCHEDULE_TO_START,
        activity.schedule_to_start);
  make_ready({.kind = Ready::Kind::kActivity, .run = run, .event = id});
}

ActivityFault Server::fault_for(const Run& run, const Activity& activity) {
  const ActivityAttempt attempt{.workflow_id = run.id,
                                .activity_id = activity.order.activity_id(),
                                .type = activity.order.activity_type().name(),
                                .attempt = activity.attempt};
  for (auto rule = faults_.rbegin(); rule != faults_.rend(); ++rule) {
    if (auto fault = (*rule)(attempt)) return *fault;
  }
  if (roll() < options_.activity_failure_rate)
    return ActivityFault::fails(ApplicationError{"an injected failure", "Injected"});
  const bool limited = from_proto(activity.order.start_to_close_timeout()) > Duration::zero();
  if (limited && roll() < options_.activity_timeout_rate) return ActivityFault::hangs();
  return {};
}

void Server::start_activity(const RunPtr& run, std::int64_t event) {
  Activity& activity = run->activities.at(event);
  cancel_alarm(activity.schedule_to_start);
  ++attempts_[activity.order.activity_type().name()];
  const ActivityFault fault = fault_for(*run, activity);
  activity.started = now_;
  activity.state = State::kRunning;
  activity.worker.clear();
  activity.token = fmt::format("activity-{}", ++next_token_);
  if (fault.kind == ActivityFault::Kind::kFails)
    return attempt_failed(run, event, fault.failure, enums::TIMEOUT_TYPE_UNSPECIFIED);
  const auto limit = [&](const google::protobuf::Duration& duration, enums::TimeoutType type) {
    if (from_proto(duration) <= Duration::zero() || activity.attempt_end) return;
    activity.attempt_end =
        after(from_proto(duration), [this, run, event, type, token = activity.token] {
          const auto found = run->activities.find(event);
          if (found == run->activities.end() || found->second.token != token) return;
          found->second.attempt_end.reset();
          attempt_failed(run, event, timeout_failure(type), type);
        });
  };
  if (fault.kind == ActivityFault::Kind::kHangs) {
    limit(activity.order.heartbeat_timeout(), enums::TIMEOUT_TYPE_HEARTBEAT);
    limit(activity.order.start_to_close_timeout(), enums::TIMEOUT_TYPE_START_TO_CLOSE);
    activity.state = State::kHeld;
    return;
  }
  limit(activity.order.start_to_close_timeout(), enums::TIMEOUT_TYPE_START_TO_CLOSE);
  hand_out(run, activity, fault);
}

void Server::hand_out(const RunPtr& run, Activity& activity, const ActivityFault& fault) {
  const CallPtr poll = take_poll(activity_queues_, activity.order.task_queue().name());
  activity.slow = fault.slow;
  activity.worker = poll->request<api::PollActivityTaskQueueRequest>().worker_instance_key();
  activity.busy = std::make_shared<Busy>();
  busy_.push_back(activity.busy);
  auto& task = poll->response<api::PollActivityTaskQueueResponse>();
  task.set_task_token(activity.token);
  task.set_workflow_namespace("default");
  *task.mutable_workflow_type() = run->started().workflow_type();
  task.mutable_workflow_execution()->set_workflow_id(run->id);
  task.mutable_workflow_execution()->set_run_id(run->run_id);
  *task.mutable_activity_type() = activity.order.activity_type();
  task.set_activity_id(activity.order.activity_id());
  if (activity.order.has_header()) *task.mutable_header() = activity.order.header();
  *task.mutable_input() = activity.order.input();
  *task.mutable_heartbeat_details() = activity.heartbeat;
  write(activity.scheduled, task.mutable_scheduled_time());
  write(activity.attempt_scheduled, task.mutable_current_attempt_scheduled_time());
  write(activity.started, task.mutable_started_time());
  task.set_attempt(activity.attempt);
  *task.mutable_schedule_to_close_timeout() = activity.order.schedule_to_close_timeout();
  *task.mutable_start_to_close_timeout() = activity.order.start_to_close_timeout();
  *task.mutable_heartbeat_timeout() = activity.order.heartbeat_timeout();
  if (activity.order.has_retry_policy())
    *task.mutable_retry_policy() = activity.order.retry_policy();
  poll->answer();
}

std::pair<RunPtr, Activity*> Server::activity_of(const CallPtr& call, const std::string& token) {
  for (const auto& [id, run] : by_run_id_) {
    for (auto& [event, activity] : run->activities) {
      if (activity.token == token && activity.state == State::kRunning) return {run, &activity};
    }
  }
  call->refuse(grpc_code::kNotFound, "activity task not found");
  return {nullptr, nullptr};
}

void Server::answered(const RunPtr& run, Activity& activity, std::function<void()> end) {
  if (activity.busy) finished(std::exchange(activity.busy, nullptr));
  if (activity.slow <= Duration::zero()) return end();
  activity.state = State::kHeld;
  activity.next = after(activity.slow, [run, &activity, end = std::move(end)] {
    activity.next.reset();
    end();
  });
}

void Server::activity_completed(const CallPtr& call) {
  const auto& request = call->request<api::RespondActivityTaskCompletedRequest>();
  const auto [run, activity] = activity_of(call, request.task_token());
  if (run == nullptr) return;
  answered(run, *activity,
           [this, run = run, id = activity->scheduled_event, result = request.result()] {
             end_activity(run, id, [id, result](HistoryEvent& event, std::int64_t at) {
               event.set_event_type(enums::EVENT_TYPE_ACTIVITY_TASK_COMPLETED);
               auto& done = *event.mutable_activity_task_completed_event_attributes();
               *done.mutable_result() = result;
               done.set_scheduled_event_id(id);
               done.set_started_event_id(at);
             });
           });
  call->answer();
}

void Server::activity_failed(const CallPtr& call) {
  const auto& request = call->request<api::RespondActivityTaskFailedRequest>();
  const auto [run, activity] = activity_of(call, request.task_token());
  if (run == nullptr) return;
  if (request.has_last_heartbeat_details()) activity->heartbeat = request.last_heartbeat_details();
  answered(run, *activity,
           [this, run = run, id = activity->scheduled_event, failure = request.failure()] {
             attempt_failed(run, id, failure, enums::TIMEOUT_TYPE_UNSPECIFIED);
           });
  call->answer();
}

void Server::activity_canceled(const CallPtr& call) {
  const auto& request = call->request<api::RespondActivityTaskCanceledRequest>();
  const auto [run, activity] = activity_of(call, request.task_token());
  if (run == nullptr) return;
  if (activity->cancel_event == 0)
    return call->refuse(grpc_code::kInvalidArgument, "nobody asked for the cancellation");
  answered(run, *activity,
           [this, run = run, id = activity->scheduled_event, details = request.details()] {
             const std::int64_t asked = run->activities.at(id).cancel_event;
             end_activity(run, id, [id, asked, details](HistoryEvent& event, std::int64_t at) {
               event.set_event_type(enums::EVENT_TYPE_ACTIVITY_TASK_CANCELED);
               auto& done = *event.mutable_activity_task_canceled_event_attributes();
               *done.mutable_details() = details;
               done.set_latest_cancel_requested_event_id(asked);
               done.set_scheduled_event_id(id);
               done.set_started_event_id(at);
             });
           });
  call->answer();
}

void Server::heartbeat(const CallPtr& call) {
  const auto& request = call->request<api::RecordActivityTaskHeartbeatRequest>();
  const auto [run, activity] = activity_of(call, request.task_token());
  if (run == nullptr) return;
  activity->heartbeat = request.details();
  call->response<api::RecordActivityTaskHeartbeatResponse>().set_cancel_requested(
      activity->cancel_event != 0);
  call->answer();
}

// One that is not in a worker's hands ends at once.
void Server::ask_to_cancel(const RunPtr& run, Activity& activity) {
  if (activity.state == State::kRunning && activity.busy)
    return;  // it hears of it by its heartbeat
  const std::int64_t id = activity.scheduled_event;
  const std::int64_t asked = activity.cancel_event;
  end_activity(run, id, [id, asked](HistoryEvent& event, std::int64_t at) {
    event.set_event_type(enums::EVENT_TYPE_ACTIVITY_TASK_CANCELED);
    auto& done = *event.mutable_activity_task_canceled_event_attributes();
    done.set_latest_cancel_requested_event_id(asked);
    done.set_scheduled_event_id(id);
    done.set_started_event_id(at);
  });
}

std::optional<Duration> Server::next_attempt(const Activity& activity, const FailureProto& failure,
                                             enums::RetryState& state) const {
  const auto& policy = activity.order.retry_policy();
  const auto& application = failure.application_failure_info();
  state = enums::RETRY_STATE_NON_RETRYABLE_FAILURE;
  if (application.non_retryable()) return std::nullopt;
  if (failure.has_application_failure_info() &&
      std::ranges::find(policy.non_retryable_error_types(), application.type()) !=
          policy.non_retryable_error_types().end())
    return std::nullopt;
  state = enums::RETRY_STATE_CANCEL_REQUESTED;
  if (activity.cancel_event != 0) return std::nullopt;
  state = enums::RETRY_STATE_MAXIMUM_ATTEMPTS_REACHED;
  if (policy.maximum_attempts() > 0 && activity.attempt >= policy.maximum_attempts())
    return std::nullopt;
  Duration initial = from_proto(policy.initial_interval());
  if (initial <= Duration::zero()) initial = std::chrono::seconds{1};
  Duration most = from_proto(policy.maximum_interval());
  if (most <= Duration::zero()) most = initial * 100;
  const double coefficient = policy.backoff_coefficient() > 0 ? policy.backoff_coefficient() : 2.0;
  const double wanted =
      static_cast<double>(initial.count()) * std::pow(coefficient, activity.attempt - 1);
  Duration pause = wanted >= static_cast<double>(most.count())
                       ? most
                       : Duration{static_cast<Duration::rep>(wanted)};
  if (application.has_next_retry_delay()) pause = from_proto(application.next_retry_delay());
  state = enums::RETRY_STATE_TIMEOUT;
  const Duration total = from_proto(activity.order.schedule_to_close_timeout());
  if (total > Duration::zero() && now_ + pause >= activity.scheduled + total) return std::nullopt;
  return pause;
}

void Server::attempt_failed(const RunPtr& run, std::int64_t event, FailureProto failure,
                            enums::TimeoutType timeout) {
  Activity& activity = run->activities.at(event);
  cancel_alarm(activity.attempt_end);
  cancel_alarm(activity.next);
  if (activity.busy) finished(std::exchange(activity.busy, nullptr));
  const bool final_timeout = timeout == enums::TIMEOUT_TYPE_SCHEDULE_TO_CLOSE ||
                             timeout == enums::TIMEOUT_TYPE_SCHEDULE_TO_START;
  enums::RetryState state = enums::RETRY_STATE_TIMEOUT;
  const auto pause = final_timeout ? std::nullopt : next_attempt(activity, failure, state);
  if (pause) {
    activity.last_failure = std::move(failure);
    ++activity.attempt;
    activity.token.clear();
    activity.state = State::kPausing;
    activity.next = after(*pause, [this, run, event] {
      Activity& again = run->activities.at(event);
      again.next.reset();
      again.state = State::kReady;
      again.attempt_scheduled = now_;
      make_ready({.kind = Ready::Kind::kActivity, .run = run, .event = event});
    });
    return;
  }
  if (timeout == enums::TIMEOUT_TYPE_UNSPECIFIED) {
    return end_activity(run, event, [=](HistoryEvent& written, std::int64_t at) {
      written.set_event_type(enums::EVENT_TYPE_ACTIVITY_TASK_FAILED);
      auto& failed = *written.mutable_activity_task_failed_event_attributes();
      *failed.mutable_failure() = failure;
      failed.set_scheduled_event_id(event);
      failed.set_started_event_id(at);
      failed.set_retry_state(state);
    });
  }
  if (activity.last_failure) *failure.mutable_cause() = *activity.last_failure;
  *failure.mutable_timeout_failure_info()->mutable_last_heartbeat_details() = activity.heartbeat;
  end_activity(run, event, [=](HistoryEvent& written, std::int64_t at) {
    written.set_event_type(enums::EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT);
    auto& timed_out = *written.mutable_activity_task_timed_out_event_attributes();
    *timed_out.mutable_failure() = failure;
    timed_out.set_scheduled_event_id(event);
    timed_out.set_started_event_id(at);
    timed_out.set_retry_state(state);
  });
}

// The start of an activity enters the history only together with its end.
void Server::end_activity(
    const RunPtr& run, std::int64_t id,
    const std::function<void(HistoryEvent&, std::int64_t started)>& describe) {
  Activity activity = std::move(run->activities.at(id));
  for (auto* alarm : {&activity.schedule_to_close, &activity.schedule_to_start,
                      &activity.attempt_end, &activity.next})
    cancel_alarm(*alarm);
  if (activity.busy) finished(activity.busy);
  run->activities.erase(id);
  const bool began = activity.state == State::kRunning || activity.state == State::kHeld;
  tell(run, [this, run, id, describe, began, attempt = activity.attempt,
             last_failure = activity.last_failure] {
    std::int64_t started_event = 0;
    if (began) {
      auto& started = *add(*run, enums::EVENT_TYPE_ACTIVITY_TASK_STARTED)
                           .mutable_activity_task_started_event_attributes();
      started.set_scheduled_event_id(id);
      started.set_attempt(attempt);
      if (last_failure) *started.mutable_last_failure() = *last_failure;
      started_event = run->last_event();
    }
    describe(add(*run, enums::EVENT_TYPE_UNSPECIFIED), started_event);
  });
}

}  // namespace tempora::testing
