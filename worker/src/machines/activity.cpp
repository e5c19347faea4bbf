#include "machines/activity.hpp"

#include <fmt/format.h>

#include <tempora/failure.hpp>

#include "converter/options.hpp"
#include "engine/run_state.hpp"
#include "interceptor/chain.hpp"

namespace tempora::engine {
ActivityMachine::ActivityMachine(RunState& run, detail::Ref<detail::FutureState> future,
                                 std::string id, std::string type, CancellationType cancellation,
                                 SourceLocation where)
    : Machine(run),
      future_(std::move(future)),
      id_(std::move(id)),
      type_(std::move(type)),
      where_(where),
      cancellation_(cancellation) {
  future_->owner = this;
}

ActivityMachine::~ActivityMachine() {
  if (future_ && future_->owner == this) future_->owner = nullptr;
}

void ActivityMachine::schedule(const ActivityOptions& options, Payloads input) {
  const Headers headers = run_.outbound(OutboundCall::Kind::kActivity, type_);
  auto command = run_.make_command(enums::COMMAND_TYPE_SCHEDULE_ACTIVITY_TASK);
  if (command) {
    using Attributes = temporal::api::command::v1::ScheduleActivityTaskCommandAttributes;
    Attributes& attributes = *command->mutable_schedule_activity_task_command_attributes();
    attributes.set_activity_id(id_);
    attributes.mutable_activity_type()->set_name(type_);
    const std::string& queue = options.task_queue.empty() ? run_.task_queue() : options.task_queue;
    attributes.mutable_task_queue()->set_name(queue);
    *attributes.mutable_input() = std::move(input);
    if (!headers.empty()) detail::write_headers(headers, attributes.mutable_header());
    const auto set = [](Duration timeout, auto&& field) {
      if (timeout > Duration{}) write(timeout, field());
    };
    set(options.schedule_to_close, [&] { return attributes.mutable_schedule_to_close_timeout(); });
    set(options.schedule_to_start, [&] { return attributes.mutable_schedule_to_start_timeout(); });
    set(options.start_to_close, [&] { return attributes.mutable_start_to_close_timeout(); });
    set(options.heartbeat, [&] { return attributes.mutable_heartbeat_timeout(); });
    if (options.retry) write(*options.retry, attributes.mutable_retry_policy());
    if (is_set(options.priority)) write(options.priority, attributes.mutable_priority());
    attributes.set_request_eager_execution(options.eager.value_or(true) &&
                                           run_.options().eager_activities &&
                                           queue == run_.task_queue());
    write_metadata(options.summary, {}, *command);
  }
  run_.queue(enums::COMMAND_TYPE_SCHEDULE_ACTIVITY_TASK, this, std::move(command), where_);
}

void ActivityMachine::cancel(const std::string& reason) {
  const detail::Ref<ActivityMachine> self{this};
  switch (state_) {
    case State::kCreated:
      run_.drop_unsent(*this, enums::COMMAND_TYPE_SCHEDULE_ACTIVITY_TASK);
      state_ = State::kFinal;
      fail_as_cancelled(reason);
      return;
    case State::kRecorded: {
      if (cancellation_ == CancellationType::kAbandon) {
        state_ = State::kAbandoned;
        fail_as_cancelled(reason);
        return;
      }
      state_ = State::kCancelRequested;
      auto command = run_.make_command(enums::COMMAND_TYPE_REQUEST_CANCEL_ACTIVITY_TASK);
      if (command) {
        command->mutable_request_cancel_activity_task_command_attributes()->set_scheduled_event_id(
            scheduled_event_id_);
      }
      run_.queue(enums::COMMAND_TYPE_REQUEST_CANCEL_ACTIVITY_TASK, this, std::move(command),
                 where_);
      if (cancellation_ == CancellationType::kTryCancel) fail_as_cancelled(reason);
      return;
    }
    case State::kCancelRequested:
    case State::kAbandoned:
    case State::kFinal: return;
  }
}

std::string ActivityMachine::describe(enums::CommandType type) const {
  if (type == enums::COMMAND_TYPE_REQUEST_CANCEL_ACTIVITY_TASK) {
    return fmt::format("{} scheduled_event_id {} (activity_id \"{}\" activity_type \"{}\")",
                       name_of(type), scheduled_event_id_, id_, type_);
  }
  return fmt::format("{} activity_id \"{}\" activity_type \"{}\"", name_of(type), id_, type_);
}

bool ActivityMachine::matches(enums::CommandType type, const HistoryEvent& event) const {
  if (type == enums::COMMAND_TYPE_REQUEST_CANCEL_ACTIVITY_TASK) {
    return event.activity_task_cancel_requested_event_attributes().scheduled_event_id() ==
           scheduled_event_id_;
  }
  const auto& scheduled = event.activity_task_scheduled_event_attributes();
  return scheduled.activity_id() == id_ && scheduled.activity_type().name() == type_;
}

void ActivityMachine::recorded(enums::CommandType type, const HistoryEvent& event) {
  if (type == enums::COMMAND_TYPE_REQUEST_CANCEL_ACTIVITY_TASK) return;
  state_ = State::kRecorded;
  scheduled_event_id_ = event.event_id();
  run_.expect_events(scheduled_event_id_, this);
}

bool ActivityMachine::on_event(const HistoryEvent& event) {
  if (state_ != State::kRecorded && state_ != State::kCancelRequested &&
      state_ != State::kAbandoned)
    return false;
  const detail::Ref<ActivityMachine> self{this};
  switch (event.event_type()) {
    case enums::EVENT_TYPE_ACTIVITY_TASK_STARTED: return true;
    case enums::EVENT_TYPE_ACTIVITY_TASK_COMPLETED: {
      close();
      const Payloads& result = event.activity_task_completed_event_attributes().result();
      run_.fulfil(*future_, result.payloads_size() > 0 ? &result.payloads(0) : nullptr);
      break;
    }
    case enums::EVENT_TYPE_ACTIVITY_TASK_FAILED: {
      close();
      const auto& failed = event.activity_task_failed_event_attributes();
      fail_future(fmt::format("activity {} failed", type_), failed.started_event_id(),
                  failed.identity(), failed.retry_state(), failed.failure());
      break;
    }
    case enums::EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT: {
      close();
      const auto& timed_out = event.activity_task_timed_out_event_attributes();
      fail_future(fmt::format("activity {} timed out", type_), timed_out.started_event_id(), {},
                  timed_out.retry_state(), timed_out.failure());
      break;
    }
    case enums::EVENT_TYPE_ACTIVITY_TASK_CANCELED: {
      close();
      const auto& canceled = event.activity_task_canceled_event_attributes();
      FailureProto cause = CanceledError{"activity canceled"}.proto();
      *cause.mutable_canceled_failure_info()->mutable_details() = canceled.details();
      fail_future(fmt::format("activity {} canceled", type_), canceled.started_event_id(),
                  canceled.identity(), enums::RETRY_STATE_CANCEL_REQUESTED, cause);
      break;
    }
    default: return false;
  }
  future_ = {};
  return true;
}

void ActivityMachine::close() {
  // The end came before our request to cancel was sent: asking now would be refused by the server.
  if (state_ == State::kCancelRequested)
    run_.drop_unsent(*this, enums::COMMAND_TYPE_REQUEST_CANCEL_ACTIVITY_TASK);
  state_ = State::kFinal;
  run_.forget_events(scheduled_event_id_);
}

void ActivityMachine::fail_future(std::string message, std::int64_t started_event_id,
                                  const std::string& identity, enums::RetryState retry_state,
                                  const FailureProto& cause) {
  if (!future_->pending()) return;
  FailureProto proto;
  proto.set_message(std::move(message));
  proto.set_source("tempora");
  *proto.mutable_cause() = cause;
  auto& info = *proto.mutable_activity_failure_info();
  info.set_scheduled_event_id(scheduled_event_id_);
  info.set_started_event_id(started_event_id);
  info.set_identity(identity);
  info.mutable_activity_type()->set_name(type_);
  info.set_activity_id(id_);
  info.set_retry_state(retry_state);
  future_->fail(std::make_exception_ptr(ActivityError{std::move(proto)}));
}

void ActivityMachine::fail_as_cancelled(const std::string& reason) {
  fail_future(fmt::format("activity {} canceled", type_), 0, {},
              enums::RETRY_STATE_CANCEL_REQUESTED,
              CanceledError{reason.empty() ? "canceled" : reason}.proto());
}

}  // namespace tempora::engine
