// Updates. A server may answer before the wanted stage is reached, and a run may close under a
// waiting update: the same request, with the same update id, is then sent again.
#include <algorithm>
#include <cctype>
#include <tempora/client.hpp>

#include "client_core.hpp"

namespace tempora {

using detail::Access;
using detail::ClientCore;
using detail::Limit;
namespace api = temporal::api::workflowservice::v1;
namespace enums = temporal::api::enums::v1;

namespace {

// How often one update is sent anew because a run closed or a workflow task failed under it.
constexpr int kMaxResends = 50;

bool is_failed_workflow_task(const ClientError& error) {
  if (error.grpc_code != grpc_code::kFailedPrecondition) return false;
  std::string text = error.message;
  std::ranges::transform(text, text.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text.find("workflow task") != std::string::npos;
}

// Whether the same update should be sent again after this error, which decided nothing.
bool should_resend(const ClientError& error) {
  return is_aborted_by_closing_run(error) || is_failed_workflow_task(error);
}

void pause(const ClientCore& core, const Limit& limit, int resends) {
  core.caller.clock().sleep_for(limit.left(pause_after(resends, CallStatus{})));
}

ClientError not_reached(const std::string& workflow_id, const std::string& update_id) {
  return detail::time_limit("the update has no outcome yet",
                            "update " + update_id + " of " + workflow_id, true);
}

Outcome<Payloads> to_outcome(const temporal::api::update::v1::Outcome& outcome, std::string where) {
  if (!outcome.has_failure()) return outcome.success();
  ClientError error;
  error.code = ErrorCode::kUpdateFailed;
  error.message = outcome.failure().message();
  error.where = std::move(where);
  error.failure = to_failure(outcome.failure());
  return std::unexpected(std::move(error));
}

bool is_accepted(const api::UpdateWorkflowExecutionResponse& response) {
  return response.has_outcome() ||
         response.stage() >= enums::UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ACCEPTED;
}

}  // namespace

api::UpdateWorkflowExecutionRequest ClientCore::update_request(
    const std::string& workflow_id, const std::string& run_id, const std::string& first_run_id,
    std::string_view name, const std::string& update_id, Payloads input) const {
  api::UpdateWorkflowExecutionRequest request;
  request.set_namespace_(namespace_);
  request.mutable_workflow_execution()->set_workflow_id(workflow_id);
  request.mutable_workflow_execution()->set_run_id(run_id);
  request.set_first_execution_run_id(first_run_id);
  request.mutable_wait_policy()->set_lifecycle_stage(
      enums::UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED);
  auto& update = *request.mutable_request();
  update.mutable_meta()->set_update_id(update_id.empty() ? random_uuid() : update_id);
  update.mutable_meta()->set_identity(identity);
  update.mutable_input()->set_name(std::string{name});
  if (input.payloads_size() > 0) *update.mutable_input()->mutable_args() = std::move(input);
  return request;
}

UpdateHandle ClientCore::update_handle(std::string workflow_id, std::string run_id,
                                       std::string update_id) const {
  UpdateHandle handle;
  handle.core_ = shared_from_this();
  handle.workflow_id_ = std::move(workflow_id);
  handle.run_id_ = std::move(run_id);
  handle.id_ = std::move(update_id);
  return handle;
}

UpdateHandle ClientCore::sent_update(const api::UpdateWorkflowExecutionRequest& request,
                                     const api::UpdateWorkflowExecutionResponse& response) const {
  const std::string& id = request.request().meta().update_id();
  const std::string& workflow_id = request.workflow_execution().workflow_id();
  UpdateHandle handle =
      update_handle(workflow_id, response.update_ref().workflow_execution().run_id(), id);
  if (response.has_outcome()) {
    handle.known_ = std::make_shared<const Outcome<Payloads>>(to_outcome(
        response.outcome(), "update " + request.request().input().name() + " of " + workflow_id));
  }
  return handle;
}

Outcome<UpdateHandle> ClientCore::send_update(const api::UpdateWorkflowExecutionRequest& request,
                                              const Limit& limit) const {
  const std::string& workflow_id = request.workflow_execution().workflow_id();
  for (int resends = 0;;) {
    const auto response = call<api::UpdateWorkflowExecutionResponse>(
        methods::kUpdateWorkflow, request, workflow_id, Access::kWrites, limit.long_poll_plan());
    if (response && is_accepted(*response)) return sent_update(request, *response);
    if (limit.over())
      return std::unexpected(not_reached(workflow_id, request.request().meta().update_id()));
    if (response) continue;  // only admitted: the server waited as long as it does
    if (!should_resend(response.error()) || ++resends > kMaxResends)
      return std::unexpected(response.error());
    pause(*this, limit, resends);
  }
}

Outcome<StartedUpdate> ClientCore::send_update_with_start(
    api::StartWorkflowExecutionRequest start, const api::UpdateWorkflowExecutionRequest& update,
    const Limit& limit) const {
  const std::string workflow_id = start.workflow_id();
  for (int resends = 0;;) {
    api::ExecuteMultiOperationRequest request;
    request.set_namespace_(namespace_);
    *request.add_operations()->mutable_start_workflow() = start;
    *request.add_operations()->mutable_update_workflow() = update;
    const auto response = call<api::ExecuteMultiOperationResponse>(
        methods::kMultiOperation, request, workflow_id, Access::kWrites, limit.long_poll_plan());
    if (response && response->responses_size() == 2 &&
        is_accepted(response->responses(1).update_workflow())) {
      return StartedUpdate{started(workflow_id, response->responses(0).start_workflow()),
                           sent_update(update, response->responses(1).update_workflow())};
    }
    if (limit.over())
      return std::unexpected(not_reached(workflow_id, update.request().meta().update_id()));
    if (response) continue;
    if (!should_resend(response.error()) || ++resends > kMaxResends)
      return std::unexpected(response.error());
    // The run that this start made may be the one that closed: the same request id would find it
    // again.
    if (is_aborted_by_closing_run(response.error())) start.set_request_id(random_uuid());
    pause(*this, limit, resends);
  }
}

Outcome<Payloads> UpdateHandle::result_payloads(Duration limit_given) const {
  if (known_) return *known_;
  const Limit limit{core_->caller.clock(), limit_given};
  api::PollWorkflowExecutionUpdateRequest request;
  request.set_namespace_(core_->namespace_);
  request.set_identity(core_->identity);
  request.mutable_update_ref()->set_update_id(id_);
  request.mutable_update_ref()->mutable_workflow_execution()->set_workflow_id(workflow_id_);
  request.mutable_update_ref()->mutable_workflow_execution()->set_run_id(run_id_);
  request.mutable_wait_policy()->set_lifecycle_stage(
      enums::UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED);
  for (;;) {
    const auto response = core_->call<api::PollWorkflowExecutionUpdateResponse>(
        methods::kPollUpdate, request, workflow_id_, Access::kReads, limit.long_poll_plan());
    if (response && response->has_outcome()) {
      return to_outcome(response->outcome(), "update " + id_ + " of " + workflow_id_);
    }
    if (limit.over()) return std::unexpected(not_reached(workflow_id_, id_));
    if (!response) return std::unexpected(response.error());
  }
}

Outcome<UpdateHandle> WorkflowHandle::start_update_payloads(std::string_view name,
                                                            const UpdateOptions& options,
                                                            Payloads input) const {
  const Limit limit{core_->caller.clock(), options.limit};
  auto request =
      core_->update_request(id_, run_id_, first_run_id_, name, options.id, std::move(input));
  request.mutable_wait_policy()->set_lifecycle_stage(
      enums::UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ACCEPTED);
  return core_->send_update(request, limit);
}

Outcome<Payloads> WorkflowHandle::update_payloads(std::string_view name,
                                                  const UpdateOptions& options,
                                                  Payloads input) const {
  const Limit limit{core_->caller.clock(), options.limit};
  const auto sent = core_->send_update(
      core_->update_request(id_, run_id_, first_run_id_, name, options.id, std::move(input)),
      limit);
  if (!sent) return std::unexpected(sent.error());
  return sent->result_payloads(limit.left_or_none());
}

UpdateHandle WorkflowHandle::update_handle(std::string update_id) const {
  return core_->update_handle(id_, run_id_.empty() ? started_run_id_ : run_id_,
                              std::move(update_id));
}

}  // namespace tempora
