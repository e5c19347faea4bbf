// What operators do to a workflow and its activities.
#include <temporal/api/history/v1/message.pb.h>

#include <tempora/client.hpp>

#include "client_core.hpp"
#include "reset_point.hpp"
#include "start_request.hpp"

namespace tempora {

using detail::Access;
namespace api = temporal::api::workflowservice::v1;
namespace enums = temporal::api::enums::v1;

namespace {

// The end of the first or the last workflow task.
Outcome<std::int64_t> reset_event(const WorkflowHandle& run, const ResetOptions& options) {
  if (options.event_id > 0) return options.event_id;
  std::int64_t found = 0;
  const auto read = run.for_each_event([&](const auto& event) {
    if (event.event_type() != enums::EVENT_TYPE_WORKFLOW_TASK_COMPLETED) return true;
    found = event.event_id();
    return options.point != ResetPoint::kFirstTask;
  });
  if (!read) return std::unexpected(read.error());
  if (found == 0) {
    return std::unexpected(detail::invalid_argument(
        "point: no workflow task has been completed yet", "reset of " + run.id()));
  }
  return found;
}

template <class Response, class Request>
Outcome<void> send(const detail::ClientCore& core, std::string_view method, const Request& request,
                   const std::string& subject) {
  const auto response = core.call<Response>(method, request, subject, Access::kWrites);
  if (!response) return std::unexpected(response.error());
  return {};
}

}  // namespace

Outcome<WorkflowHandle> WorkflowHandle::reset(const ResetOptions& options) const {
  // The event is of a certain run: if none is named, the latest now.
  std::string run_id = run_id_;
  if (run_id.empty()) {
    const auto described = describe();
    if (!described) return std::unexpected(described.error());
    run_id = described->run_id;
  }
  const auto event = reset_event(core_->handle(id_, run_id, ""), options);
  if (!event) return std::unexpected(event.error());
  auto request = detail::execution_request<api::ResetWorkflowExecutionRequest>(*core_, id_, run_id);
  request.set_workflow_task_finish_event_id(*event);
  request.set_reason(options.reason);
  request.set_request_id(detail::random_uuid());
  detail::write_excluded(options.keep_signals, options.keep_updates, &request);
  const auto response = core_->call<api::ResetWorkflowExecutionResponse>(
      methods::kResetWorkflow, request, id_, Access::kWrites);
  if (!response) return std::unexpected(response.error());
  WorkflowHandle made = core_->handle(id_, "", first_run_id_);
  made.started_run_id_ = response->run_id();
  made.started_ = true;
  return made;
}

Outcome<void> WorkflowHandle::remove() const {
  return send<api::DeleteWorkflowExecutionResponse>(
      *core_, methods::kDeleteWorkflow,
      detail::execution_request<api::DeleteWorkflowExecutionRequest>(*core_, id_, run_id_), id_);
}

Outcome<void> WorkflowHandle::set_versioning(
    const std::optional<VersioningOverride>& wanted) const {
  auto request =
      detail::execution_request<api::UpdateWorkflowExecutionOptionsRequest>(*core_, id_, run_id_);
  request.mutable_update_mask()->add_paths("versioning_override");
  auto& options = *request.mutable_workflow_execution_options();
  if (wanted) {
    if (auto checked = detail::check(*wanted, id_); !checked) return checked;
    detail::write_versioning(*wanted, options.mutable_versioning_override());
  }
  return send<api::UpdateWorkflowExecutionOptionsResponse>(*core_, methods::kUpdateWorkflowOptions,
                                                           request, id_);
}

Outcome<void> WorkflowHandle::pause_activity(std::string_view activity_id,
                                             std::string_view reason) const {
  auto request = detail::execution_request<api::PauseActivityRequest>(*core_, id_, run_id_);
  request.set_id(std::string{activity_id});
  request.set_reason(std::string{reason});
  request.set_request_id(detail::random_uuid());
  return send<api::PauseActivityResponse>(*core_, methods::kPauseActivity, request, id_);
}

Outcome<void> WorkflowHandle::unpause_activity(std::string_view activity_id) const {
  auto request = detail::execution_request<api::UnpauseActivityRequest>(*core_, id_, run_id_);
  request.set_id(std::string{activity_id});
  return send<api::UnpauseActivityResponse>(*core_, methods::kUnpauseActivity, request, id_);
}

Outcome<void> WorkflowHandle::reset_activity(std::string_view activity_id,
                                             bool forget_heartbeat) const {
  auto request = detail::execution_request<api::ResetActivityRequest>(*core_, id_, run_id_);
  request.set_id(std::string{activity_id});
  request.set_reset_heartbeat(forget_heartbeat);
  return send<api::ResetActivityResponse>(*core_, methods::kResetActivity, request, id_);
}

}  // namespace tempora
