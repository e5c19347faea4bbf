// Operations of Nexus: handed to the workers that have their handlers, tried again, cancelled, and
// ended by the workflows that they go on as.
#include <fmt/format.h>

#include <algorithm>
#include <tempora/nexus.hpp>

#include "converter/time.hpp"
#include "testing/service/server.hpp"

namespace tempora::testing {

namespace {

using Ask = NexusOp::Ask;
using State = NexusOp::State;

constexpr const char* kCallback = "temporal://testing";
constexpr const char* kCallerHeader = "tempora-caller";
constexpr const char* kEventHeader = "tempora-event";
constexpr std::chrono::hours kLongestPause{1};

Duration pause_after(int attempt) {
  return std::min<Duration>(std::chrono::seconds{1} * (1LL << std::min(attempt - 1, 20)),
                            kLongestPause);
}

FailureProto timeout_failure(enums::TimeoutType type) {
  FailureProto failure;
  failure.set_message("operation timed out");
  failure.set_source("Server");
  failure.mutable_timeout_failure_info()->set_timeout_type(type);
  return failure;
}

// The server's own frame around what went wrong.
FailureProto framed(const NexusOp& op, const FailureProto& cause) {
  FailureProto failure;
  failure.set_message("nexus operation completed unsuccessfully");
  failure.set_source("Server");
  auto& info = *failure.mutable_nexus_operation_execution_failure_info();
  info.set_scheduled_event_id(op.scheduled_event);
  info.set_endpoint(op.order.endpoint());
  info.set_service(op.order.service());
  info.set_operation(op.order.operation());
  info.set_operation_token(op.operation_token);
  *failure.mutable_cause() = cause;
  return failure;
}

}  // namespace

const std::string& Server::nexus_queue(const std::string& endpoint) const {
  const auto own = nexus_queues_.find(endpoint);
  return own == nexus_queues_.end() ? options_.task_queue : own->first;
}

void Server::poll_nexus_task(const CallPtr& call) {
  auto& polled = nexus_queues_[call->request<api::PollNexusTaskQueueRequest>().task_queue().name()];
  polled.polls.push_back(call);
  polled.attended = true;
}

void Server::schedule_nexus(
    const RunPtr& run, const HistoryEvent& event,
    const temporal::api::command::v1::ScheduleNexusOperationCommandAttributes& order) {
  const std::int64_t id = event.event_id();
  NexusOp& op = run->nexus[id];
  op.order = order;
  op.scheduled_event = id;
  op.request_id = new_uuid();
  run->history.mutable_events(static_cast<int>(id) - 1)
      ->mutable_nexus_operation_scheduled_event_attributes()
      ->set_request_id(op.request_id);
  const auto limit = [&](const google::protobuf::Duration& duration, enums::TimeoutType type,
                         std::optional<Alarm>& alarm) {
    if (from_proto(duration) <= Duration::zero()) return;
    alarm = after(from_proto(duration), [this, run, id, type] {
      if (run->nexus.contains(id)) fail_nexus(run, id, timeout_failure(type));
    });
  };
  limit(order.schedule_to_close_timeout(), enums::TIMEOUT_TYPE_SCHEDULE_TO_CLOSE,
        op.schedule_to_close);
  limit(order.schedule_to_start_timeout(), enums::TIMEOUT_TYPE_SCHEDULE_TO_START,
        op.schedule_to_start);
  make_ready({.kind = Ready::Kind::kNexus, .run = run, .event = id});
}

void Server::cancel_nexus(const RunPtr& run, std::int64_t scheduled_event,
                          std::int64_t cancel_event) {
  const auto found = run->nexus.find(scheduled_event);
  if (found == run->nexus.end()) return;
  NexusOp& op = found->second;
  op.cancel_event = cancel_event;
  if (op.ask != Ask::kNothing) return;  // its start comes first
  op.ask = Ask::kCancel;
  op.attempt = 1;
  op.state = State::kReady;
  make_ready({.kind = Ready::Kind::kNexus, .run = run, .event = scheduled_event});
}

void Server::hand_out_nexus(const RunPtr& run, std::int64_t event) {
  NexusOp& op = run->nexus.at(event);
  const CallPtr poll = take_poll(nexus_queues_, nexus_queue(op.order.endpoint()));
  op.state = State::kRunning;
  op.task_token = fmt::format("nexus-{}", ++next_token_);
  op.worker = poll->request<api::PollNexusTaskQueueRequest>().worker_instance_key();
  op.busy = std::make_shared<Busy>();
  busy_.push_back(op.busy);
  auto& task = poll->response<api::PollNexusTaskQueueResponse>();
  task.set_task_token(op.task_token);
  auto& request = *task.mutable_request();
  *request.mutable_header() = op.order.nexus_header();
  request.mutable_capabilities()->set_temporal_failure_responses(true);
  request.set_endpoint(op.order.endpoint());
  write(now_, request.mutable_scheduled_time());
  if (op.ask == Ask::kCancel) {
    auto& cancel = *request.mutable_cancel_operation();
    cancel.set_service(op.order.service());
    cancel.set_operation(op.order.operation());
    cancel.set_operation_token(op.operation_token);
  } else {
    auto& start = *request.mutable_start_operation();
    start.set_service(op.order.service());
    start.set_operation(op.order.operation());
    start.set_request_id(op.request_id);
    start.set_callback(kCallback);
    (*start.mutable_callback_header())[kCallerHeader] = run->run_id;
    (*start.mutable_callback_header())[kEventHeader] = std::to_string(event);
    *start.mutable_payload() = op.order.input();
  }
  poll->answer();
}

std::pair<RunPtr, NexusOp*> Server::nexus_of(const CallPtr& call, const std::string& token) {
  for (const auto& [id, run] : by_run_id_) {
    for (auto& [event, op] : run->nexus) {
      if (op.task_token != token || op.state != State::kRunning) continue;
      if (op.busy) finished(std::exchange(op.busy, nullptr));
      return {run, &op};
    }
  }
  call->refuse(grpc_code::kNotFound, "Nexus task not found");
  return {nullptr, nullptr};
}

void Server::nexus_completed(const CallPtr& call) {
  const auto& request = call->request<api::RespondNexusTaskCompletedRequest>();
  const auto [run, op] = nexus_of(call, request.task_token());
  if (run == nullptr) return;
  const auto& response = request.response();
  const std::int64_t event = op->scheduled_event;
  if (response.has_cancel_operation()) {
    op->ask = Ask::kNothing;
    op->task_token.clear();
    tell(run, [this, run = run, event, asked = op->cancel_event] {
      auto& taken = *add(*run, enums::EVENT_TYPE_NEXUS_OPERATION_CANCEL_REQUEST_COMPLETED)
                         .mutable_nexus_operation_cancel_request_completed_event_attributes();
      taken.set_requested_event_id(asked);
      taken.set_scheduled_event_id(event);
    });
  } else if (response.start_operation().has_failure()) {
    fail_nexus(run, event, response.start_operation().failure());
  } else if (response.start_operation().has_sync_success()) {
    end_nexus(run, event,
              [event, result = response.start_operation().sync_success().payload()](
                  HistoryEvent& written) {
                written.set_event_type(enums::EVENT_TYPE_NEXUS_OPERATION_COMPLETED);
                auto& done = *written.mutable_nexus_operation_completed_event_attributes();
                done.set_scheduled_event_id(event);
                *done.mutable_result() = result;
              });
  } else {
    nexus_started(run, *op, response.start_operation().async_success().operation_token());
  }
  call->answer();
}

void Server::nexus_started(const RunPtr& run, NexusOp& op, const std::string& token) {
  const std::int64_t event = op.scheduled_event;
  op.operation_token = token;
  op.task_token.clear();
  op.ask = Ask::kNothing;
  cancel_alarm(op.schedule_to_start);
  if (const Duration limit = from_proto(op.order.start_to_close_timeout());
      limit > Duration::zero()) {
    op.start_to_close = after(limit, [this, run, event] {
      if (run->nexus.contains(event))
        fail_nexus(run, event, timeout_failure(enums::TIMEOUT_TYPE_START_TO_CLOSE));
    });
  }
  tell(run, [this, run, event, token, request_id = op.request_id] {
    auto& started = *add(*run, enums::EVENT_TYPE_NEXUS_OPERATION_STARTED)
                         .mutable_nexus_operation_started_event_attributes();
    started.set_scheduled_event_id(event);
    started.set_operation_token(token);
    started.set_request_id(request_id);
  });
  if (op.cancel_event != 0) cancel_nexus(run, event, op.cancel_event);
}

void Server::nexus_failed(const CallPtr& call) {
  const auto& request = call->request<api::RespondNexusTaskFailedRequest>();
  const auto [run, op] = nexus_of(call, request.task_token());
  if (run == nullptr) return;
  nexus_refused(run, *op, request.failure());
  call->answer();
}

void Server::nexus_refused(const RunPtr& run, NexusOp& op, const FailureProto& failure) {
  if (NexusHandlerError{failure}.retryable()) {
    op.last_failure = failure;
    return ask_again(run, op, pause_after(op.attempt));
  }
  const std::int64_t event = op.scheduled_event;
  if (op.ask == Ask::kStart) return fail_nexus(run, event, failure);
  op.ask = Ask::kNothing;
  op.task_token.clear();
  tell(run, [this, run, event, failure, asked = op.cancel_event] {
    auto& refused = *add(*run, enums::EVENT_TYPE_NEXUS_OPERATION_CANCEL_REQUEST_FAILED)
                         .mutable_nexus_operation_cancel_request_failed_event_attributes();
    refused.set_requested_event_id(asked);
    refused.set_scheduled_event_id(event);
    *refused.mutable_failure() = failure;
  });
}

void Server::ask_again(const RunPtr& run, NexusOp& op, Duration pause) {
  if (op.busy) finished(std::exchange(op.busy, nullptr));
  ++op.attempt;
  op.task_token.clear();
  op.state = State::kPausing;
  op.next = after(pause, [this, run, event = op.scheduled_event] {
    NexusOp& again = run->nexus.at(event);
    again.next.reset();
    again.state = State::kReady;
    make_ready({.kind = Ready::Kind::kNexus, .run = run, .event = event});
  });
}

void Server::fail_nexus(const RunPtr& run, std::int64_t event, const FailureProto& given) {
  const NexusOp& op = run->nexus.at(event);
  FailureProto cause = given;
  if (cause.has_timeout_failure_info() && op.last_failure)
    *cause.mutable_cause() = *op.last_failure;
  end_nexus(run, event, [event, cause, failure = framed(op, cause)](HistoryEvent& written) {
    const auto write = [&](auto& attributes) {
      attributes.set_scheduled_event_id(event);
      *attributes.mutable_failure() = failure;
    };
    if (cause.has_canceled_failure_info()) {
      written.set_event_type(enums::EVENT_TYPE_NEXUS_OPERATION_CANCELED);
      write(*written.mutable_nexus_operation_canceled_event_attributes());
    } else if (cause.has_timeout_failure_info()) {
      written.set_event_type(enums::EVENT_TYPE_NEXUS_OPERATION_TIMED_OUT);
      write(*written.mutable_nexus_operation_timed_out_event_attributes());
    } else {
      written.set_event_type(enums::EVENT_TYPE_NEXUS_OPERATION_FAILED);
      write(*written.mutable_nexus_operation_failed_event_attributes());
    }
  });
}

void Server::clear(NexusOp& op) {
  for (auto* alarm : {&op.schedule_to_close, &op.schedule_to_start, &op.start_to_close, &op.next})
    cancel_alarm(*alarm);
  if (op.busy) finished(std::exchange(op.busy, nullptr));
}

void Server::end_nexus(const RunPtr& run, std::int64_t event,
                       const std::function<void(HistoryEvent&)>& describe) {
  clear(run->nexus.at(event));
  run->nexus.erase(event);
  tell(run, [this, run, describe] { describe(add(*run, enums::EVENT_TYPE_UNSPECIFIED)); });
}

void Server::remember_callers(const RunPtr& run,
                              const api::StartWorkflowExecutionRequest& request) {
  for (const auto& callback : request.completion_callbacks()) {
    const auto& headers = callback.nexus().header();
    const auto caller = headers.find(kCallerHeader);
    const auto event = headers.find(kEventHeader);
    if (caller != headers.end() && event != headers.end() && run->open())
      run->callers.emplace(caller->second, std::stoll(event->second));
  }
}

// The run has ended for good: with it the operations that it stood for.
void Server::tell_callers(const RunPtr& run) {
  const HistoryEvent& last = run->history.events(run->history.events_size() - 1);
  for (const auto& [caller_id, event] : std::exchange(run->callers, {})) {
    const auto found = by_run_id_.find(caller_id);
    if (found == by_run_id_.end() || !found->second->nexus.contains(event)) continue;
    const RunPtr caller = found->second;
    switch (run->status) {
      case enums::WORKFLOW_EXECUTION_STATUS_COMPLETED: {
        const auto& results = last.workflow_execution_completed_event_attributes().result();
        end_nexus(caller, event,
                  [event = event, result = results.payloads_size() > 0
                                               ? results.payloads(0)
                                               : Payload{}](HistoryEvent& written) {
                    written.set_event_type(enums::EVENT_TYPE_NEXUS_OPERATION_COMPLETED);
                    auto& done = *written.mutable_nexus_operation_completed_event_attributes();
                    done.set_scheduled_event_id(event);
                    *done.mutable_result() = result;
                  });
        break;
      }
      case enums::WORKFLOW_EXECUTION_STATUS_FAILED:
        fail_nexus(caller, event, last.workflow_execution_failed_event_attributes().failure());
        break;
      case enums::WORKFLOW_EXECUTION_STATUS_CANCELED:
        fail_nexus(caller, event, CanceledError{"operation canceled"}.proto());
        break;
      default: {
        const bool late = run->status == enums::WORKFLOW_EXECUTION_STATUS_TIMED_OUT;
        fail_nexus(
            caller, event,
            ApplicationError{late ? "operation exceeded internal timeout" : "operation terminated",
                             "", true}
                .proto());
      }
    }
  }
}

}  // namespace tempora::testing
