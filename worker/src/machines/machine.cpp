#include "machines/machine.hpp"

#include <fmt/format.h>

#include "engine/run_state.hpp"

namespace tempora::engine {
namespace {

std::string camel(std::string_view upper_snake) {
  std::string text;
  bool first = true;
  for (const char c : upper_snake) {
    if (c == '_') {
      first = true;
    } else {
      text += first ? c : static_cast<char>(c | 0x20);
      first = false;
    }
  }
  return text;
}

}  // namespace

Machine::Machine(RunState& run) : run_(run), scope_(run.scheduler().scope) {}

bool Machine::on_event(const HistoryEvent&) { return false; }

enums::EventType event_of(enums::CommandType type) {
  switch (type) {
    case enums::COMMAND_TYPE_SCHEDULE_ACTIVITY_TASK:
      return enums::EVENT_TYPE_ACTIVITY_TASK_SCHEDULED;
    case enums::COMMAND_TYPE_REQUEST_CANCEL_ACTIVITY_TASK:
      return enums::EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED;
    case enums::COMMAND_TYPE_START_TIMER: return enums::EVENT_TYPE_TIMER_STARTED;
    case enums::COMMAND_TYPE_CANCEL_TIMER: return enums::EVENT_TYPE_TIMER_CANCELED;
    case enums::COMMAND_TYPE_RECORD_MARKER: return enums::EVENT_TYPE_MARKER_RECORDED;
    case enums::COMMAND_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES:
      return enums::EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES;
    case enums::COMMAND_TYPE_MODIFY_WORKFLOW_PROPERTIES:
      return enums::EVENT_TYPE_WORKFLOW_PROPERTIES_MODIFIED;
    case enums::COMMAND_TYPE_START_CHILD_WORKFLOW_EXECUTION:
      return enums::EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED;
    case enums::COMMAND_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION:
      return enums::EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED;
    case enums::COMMAND_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION:
      return enums::EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED;
    case enums::COMMAND_TYPE_SCHEDULE_NEXUS_OPERATION:
      return enums::EVENT_TYPE_NEXUS_OPERATION_SCHEDULED;
    case enums::COMMAND_TYPE_REQUEST_CANCEL_NEXUS_OPERATION:
      return enums::EVENT_TYPE_NEXUS_OPERATION_CANCEL_REQUESTED;
    case enums::COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION:
      return enums::EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED;
    case enums::COMMAND_TYPE_FAIL_WORKFLOW_EXECUTION:
      return enums::EVENT_TYPE_WORKFLOW_EXECUTION_FAILED;
    case enums::COMMAND_TYPE_CANCEL_WORKFLOW_EXECUTION:
      return enums::EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED;
    case enums::COMMAND_TYPE_CONTINUE_AS_NEW_WORKFLOW_EXECUTION:
      return enums::EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW;
    default: return enums::EVENT_TYPE_UNSPECIFIED;
  }
}

bool is_terminal_command_event(enums::EventType type) {
  switch (type) {
    case enums::EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:
    case enums::EVENT_TYPE_WORKFLOW_EXECUTION_FAILED:
    case enums::EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED:
    case enums::EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW: return true;
    default: return false;
  }
}

bool is_command_event(enums::EventType type) {
  switch (type) {
    case enums::EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
    case enums::EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED:
    case enums::EVENT_TYPE_TIMER_STARTED:
    case enums::EVENT_TYPE_TIMER_CANCELED:
    case enums::EVENT_TYPE_MARKER_RECORDED:
    case enums::EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED:
    case enums::EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED:
    case enums::EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED:
    case enums::EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES:
    case enums::EVENT_TYPE_WORKFLOW_PROPERTIES_MODIFIED:
    case enums::EVENT_TYPE_NEXUS_OPERATION_SCHEDULED:
    case enums::EVENT_TYPE_NEXUS_OPERATION_CANCEL_REQUESTED:
    case enums::EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED:
    case enums::EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_REJECTED:
    case enums::EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED: return true;
    default: return is_terminal_command_event(type);
  }
}

std::int64_t initiating_event_id(const HistoryEvent& event) {
  switch (event.event_type()) {
    case enums::EVENT_TYPE_ACTIVITY_TASK_STARTED:
      return event.activity_task_started_event_attributes().scheduled_event_id();
    case enums::EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
      return event.activity_task_completed_event_attributes().scheduled_event_id();
    case enums::EVENT_TYPE_ACTIVITY_TASK_FAILED:
      return event.activity_task_failed_event_attributes().scheduled_event_id();
    case enums::EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT:
      return event.activity_task_timed_out_event_attributes().scheduled_event_id();
    case enums::EVENT_TYPE_ACTIVITY_TASK_CANCELED:
      return event.activity_task_canceled_event_attributes().scheduled_event_id();
    case enums::EVENT_TYPE_TIMER_FIRED:
      return event.timer_fired_event_attributes().started_event_id();
    case enums::EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_FAILED:
      return event.start_child_workflow_execution_failed_event_attributes().initiated_event_id();
    case enums::EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED:
      return event.child_workflow_execution_started_event_attributes().initiated_event_id();
    case enums::EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED:
      return event.child_workflow_execution_completed_event_attributes().initiated_event_id();
    case enums::EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_FAILED:
      return event.child_workflow_execution_failed_event_attributes().initiated_event_id();
    case enums::EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_CANCELED:
      return event.child_workflow_execution_canceled_event_attributes().initiated_event_id();
    case enums::EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TIMED_OUT:
      return event.child_workflow_execution_timed_out_event_attributes().initiated_event_id();
    case enums::EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TERMINATED:
      return event.child_workflow_execution_terminated_event_attributes().initiated_event_id();
    case enums::EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED:
      return event.external_workflow_execution_cancel_requested_event_attributes()
          .initiated_event_id();
    case enums::EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED:
      return event.request_cancel_external_workflow_execution_failed_event_attributes()
          .initiated_event_id();
    case enums::EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_SIGNALED:
      return event.external_workflow_execution_signaled_event_attributes().initiated_event_id();
    case enums::EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED:
      return event.signal_external_workflow_execution_failed_event_attributes()
          .initiated_event_id();
    case enums::EVENT_TYPE_NEXUS_OPERATION_STARTED:
      return event.nexus_operation_started_event_attributes().scheduled_event_id();
    case enums::EVENT_TYPE_NEXUS_OPERATION_COMPLETED:
      return event.nexus_operation_completed_event_attributes().scheduled_event_id();
    case enums::EVENT_TYPE_NEXUS_OPERATION_FAILED:
      return event.nexus_operation_failed_event_attributes().scheduled_event_id();
    case enums::EVENT_TYPE_NEXUS_OPERATION_CANCELED:
      return event.nexus_operation_canceled_event_attributes().scheduled_event_id();
    case enums::EVENT_TYPE_NEXUS_OPERATION_TIMED_OUT:
      return event.nexus_operation_timed_out_event_attributes().scheduled_event_id();
    case enums::EVENT_TYPE_NEXUS_OPERATION_CANCEL_REQUEST_COMPLETED:
      return event.nexus_operation_cancel_request_completed_event_attributes().scheduled_event_id();
    case enums::EVENT_TYPE_NEXUS_OPERATION_CANCEL_REQUEST_FAILED:
      return event.nexus_operation_cancel_request_failed_event_attributes().scheduled_event_id();
    default: return 0;
  }
}

std::string name_of(enums::EventType type) {
  if (!enums::EventType_IsValid(type))
    return fmt::format("unknown event type {}", static_cast<int>(type));
  return camel(
      std::string_view{enums::EventType_Name(type)}.substr(std::string_view{"EVENT_TYPE_"}.size()));
}

std::string name_of(enums::CommandType type) {
  if (!enums::CommandType_IsValid(type))
    return fmt::format("unknown command type {}", static_cast<int>(type));
  return camel(std::string_view{enums::CommandType_Name(type)}.substr(
      std::string_view{"COMMAND_TYPE_"}.size()));
}

std::string describe(const HistoryEvent& event) {
  std::string text = fmt::format("event {} {}", event.event_id(), name_of(event.event_type()));
  const auto add = [&text](std::string_view key, std::string_view value) {
    text += fmt::format(" {} \"{}\"", key, value);
  };
  switch (event.event_type()) {
    case enums::EVENT_TYPE_ACTIVITY_TASK_SCHEDULED: {
      const auto& scheduled = event.activity_task_scheduled_event_attributes();
      add("activity_id", scheduled.activity_id());
      add("activity_type", scheduled.activity_type().name());
      break;
    }
    case enums::EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED:
      text +=
          fmt::format(" scheduled_event_id {}",
                      event.activity_task_cancel_requested_event_attributes().scheduled_event_id());
      break;
    case enums::EVENT_TYPE_TIMER_STARTED:
      add("timer_id", event.timer_started_event_attributes().timer_id());
      break;
    case enums::EVENT_TYPE_TIMER_CANCELED:
      add("timer_id", event.timer_canceled_event_attributes().timer_id());
      break;
    case enums::EVENT_TYPE_TIMER_FIRED:
      add("timer_id", event.timer_fired_event_attributes().timer_id());
      break;
    case enums::EVENT_TYPE_MARKER_RECORDED: {
      const auto& marker = event.marker_recorded_event_attributes();
      add("marker_name", marker.marker_name());
      const auto data = marker.details().find("patch-data");
      if (data != marker.details().end() && data->second.payloads_size() > 0) {
        add("patch-data", data->second.payloads(0).data());
      }
      break;
    }
    case enums::EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED: {
      const auto& child = event.start_child_workflow_execution_initiated_event_attributes();
      add("workflow_id", child.workflow_id());
      add("workflow_type", child.workflow_type().name());
      break;
    }
    case enums::EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED: {
      const auto& signal = event.signal_external_workflow_execution_initiated_event_attributes();
      add("workflow_id", signal.workflow_execution().workflow_id());
      add("signal_name", signal.signal_name());
      break;
    }
    case enums::EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED:
      add("workflow_id",
          event.request_cancel_external_workflow_execution_initiated_event_attributes()
              .workflow_execution()
              .workflow_id());
      break;
    case enums::EVENT_TYPE_NEXUS_OPERATION_SCHEDULED: {
      const auto& scheduled = event.nexus_operation_scheduled_event_attributes();
      add("service", scheduled.service());
      add("operation", scheduled.operation());
      break;
    }
    case enums::EVENT_TYPE_NEXUS_OPERATION_CANCEL_REQUESTED:
      text += fmt::format(
          " scheduled_event_id {}",
          event.nexus_operation_cancel_requested_event_attributes().scheduled_event_id());
      break;
    case enums::EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED:
      add("update_id",
          event.workflow_execution_update_accepted_event_attributes().protocol_instance_id());
      break;
    case enums::EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED:
      add("update_id",
          event.workflow_execution_update_completed_event_attributes().meta().update_id());
      break;
    default: break;
  }
  return text;
}

}  // namespace tempora::engine
