#include "describe.hpp"

#include <google/protobuf/util/time_util.h>

namespace tempora {

namespace detail {

TimePoint to_time(const google::protobuf::Timestamp& timestamp) {
  return TimePoint{Duration{google::protobuf::util::TimeUtil::TimestampToNanoseconds(timestamp)}};
}

WorkflowDescription to_description(const temporal::api::workflow::v1::WorkflowExecutionInfo& info) {
  WorkflowDescription description;
  description.id = info.execution().workflow_id();
  description.run_id = info.execution().run_id();
  description.first_run_id = info.first_run_id();
  description.type = info.type().name();
  description.task_queue = info.task_queue();
  description.status = static_cast<WorkflowStatus>(info.status());
  if (info.has_start_time()) description.start_time = to_time(info.start_time());
  if (info.has_close_time()) description.close_time = to_time(info.close_time());
  description.history_length = info.history_length();
  description.memo = {info.memo().fields().begin(), info.memo().fields().end()};
  description.search_attributes = SearchAttributes{info.search_attributes()};
  return description;
}

PendingActivity to_pending(const temporal::api::workflow::v1::PendingActivityInfo& info) {
  return {.id = info.activity_id(),
          .type = info.activity_type().name(),
          .attempt = info.attempt(),
          .paused = info.paused(),
          .cancel_requested =
              info.state() == temporal::api::enums::v1::PENDING_ACTIVITY_STATE_CANCEL_REQUESTED,
          .heartbeat_details = info.heartbeat_details(),
          .last_failure = info.has_last_failure() ? to_failure(info.last_failure()) : nullptr};
}

}  // namespace detail

std::string_view to_string(WorkflowStatus status) {
  switch (status) {
    case WorkflowStatus::kUnknown: return "Unknown";
    case WorkflowStatus::kRunning: return "Running";
    case WorkflowStatus::kCompleted: return "Completed";
    case WorkflowStatus::kFailed: return "Failed";
    case WorkflowStatus::kCanceled: return "Canceled";
    case WorkflowStatus::kTerminated: return "Terminated";
    case WorkflowStatus::kContinuedAsNew: return "ContinuedAsNew";
    case WorkflowStatus::kTimedOut: return "TimedOut";
    case WorkflowStatus::kPaused: return "Paused";
  }
  return "Unknown";
}

}  // namespace tempora
