#include "completion_size.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace tempora::pollers {

namespace {

using temporal::api::command::v1::Command;

// The largest blob in the command that the server would measure.
std::size_t largest_blob_bytes(const Command &command) {
  switch (command.attributes_case()) {
  case Command::kScheduleActivityTaskCommandAttributes:
    return command.schedule_activity_task_command_attributes()
        .input()
        .ByteSizeLong();
  case Command::kCompleteWorkflowExecutionCommandAttributes:
    return command.complete_workflow_execution_command_attributes()
        .result()
        .ByteSizeLong();
  case Command::kFailWorkflowExecutionCommandAttributes:
    return command.fail_workflow_execution_command_attributes()
        .failure()
        .ByteSizeLong();
  case Command::kContinueAsNewWorkflowExecutionCommandAttributes: {
    const auto &next =
        command.continue_as_new_workflow_execution_command_attributes();
    return std::max(next.input().ByteSizeLong(), next.memo().ByteSizeLong());
  }
  case Command::kStartChildWorkflowExecutionCommandAttributes: {
    const auto &child =
        command.start_child_workflow_execution_command_attributes();
    return std::max(child.input().ByteSizeLong(), child.memo().ByteSizeLong());
  }
  case Command::kSignalExternalWorkflowExecutionCommandAttributes:
    return command.signal_external_workflow_execution_command_attributes()
        .input()
        .ByteSizeLong();
  case Command::kRecordMarkerCommandAttributes: {
    std::size_t bytes = 0;
    for (const auto &[name, details] :
         command.record_marker_command_attributes().details()) {
      bytes += name.size() + details.ByteSizeLong();
    }
    return bytes;
  }
  case Command::kModifyWorkflowPropertiesCommandAttributes:
    return command.modify_workflow_properties_command_attributes()
        .upserted_memo()
        .ByteSizeLong();
  default:
    return 0;
  }
}

} // namespace

std::optional<TooLarge>
find_too_large(const temporal::api::workflowservice::v1::
                   RespondWorkflowTaskCompletedRequest &completion) {
  const std::size_t total = completion.ByteSizeLong();
  if (total <= kLargestBlobBytes)
    return std::nullopt; // then no part of it is larger either
  for (const Command &command : completion.commands()) {
    const std::size_t bytes = largest_blob_bytes(command);
    if (bytes <= kLargestBlobBytes)
      continue;
    return TooLarge{
        temporal::api::enums::v1::WORKFLOW_TASK_FAILED_CAUSE_PAYLOADS_TOO_LARGE,
        fmt::format(
            "[TMPRL1103] {} carries {} bytes, the server takes {}",
            temporal::api::enums::v1::CommandType_Name(command.command_type()),
            bytes, kLargestBlobBytes)};
  }
  if (total <= kLargestRequestBytes)
    return std::nullopt;
  return TooLarge{
      temporal::api::enums::v1::WORKFLOW_TASK_FAILED_CAUSE_REQUEST_TOO_LARGE,
      fmt::format(
          "[TMPRL1103] the completion has {} bytes, the server takes {}", total,
          kLargestRequestBytes)};
}

} // namespace tempora::pollers
