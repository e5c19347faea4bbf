// What clients ask for.
#include <fmt/format.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <google/rpc/status.pb.h>
#include <temporal/api/errordetails/v1/message.pb.h>

#include <algorithm>

#include "converter/time.hpp"
#include "testing/service/server.hpp"

namespace tempora::testing {

namespace {

std::string already_started_details(const Run& run) {
  temporal::api::errordetails::v1::WorkflowExecutionAlreadyStartedFailure failure;
  failure.set_start_request_id(run.start_request_id);
  failure.set_run_id(run.run_id);
  google::rpc::Status status;
  status.set_code(grpc_code::kAlreadyExists);
  status.add_details()->PackFrom(failure);
  return status.SerializeAsString();
}

// The start in a signal with start: every field that the two requests have in common, by its name,
// so that no option of a start can be forgotten here.
api::StartWorkflowExecutionRequest start_of(
    const api::SignalWithStartWorkflowExecutionRequest& request) {
  using google::protobuf::FieldDescriptor;
  api::StartWorkflowExecutionRequest start;
  const auto& from = *request.GetReflection();
  const auto& to = *start.GetReflection();
  std::vector<const FieldDescriptor*> given;
  from.ListFields(request, &given);
  for (const FieldDescriptor* field : given) {
    const FieldDescriptor* same = start.GetDescriptor()->FindFieldByName(field->name());
    if (same == nullptr) continue;  // the signal's own
    if (field->is_repeated()) {
      for (int i = 0; i < from.FieldSize(request, field); ++i)
        to.AddMessage(&start, same)->CopyFrom(from.GetRepeatedMessage(request, field, i));
    } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      to.MutableMessage(&start, same)->CopyFrom(from.GetMessage(request, field));
    } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_ENUM) {
      to.SetEnumValue(&start, same, from.GetEnumValue(request, field));
    } else {
      to.SetString(&start, same, from.GetString(request, field));
    }
  }
  return start;
}

template <class Request>
SignalAttributes signal_of(const Request& request, const Payloads& input) {
  SignalAttributes signal;
  signal.set_signal_name(request.signal_name());
  *signal.mutable_input() = input;
  signal.set_identity(request.identity());
  if (request.has_header()) *signal.mutable_header() = request.header();
  return signal;
}

}  // namespace

void Server::get_system_info(const CallPtr& call) {
  auto& response = call->response<api::GetSystemInfoResponse>();
  response.set_server_version("in-process");
  auto& can = *response.mutable_capabilities();
  can.set_signal_and_query_header(true);
  can.set_internal_error_differentiation(true);
  can.set_activity_failure_include_heartbeat(true);
  can.set_encoded_failure_attributes(true);
  can.set_upsert_memo(true);
  can.set_sdk_metadata(true);
  call->answer();
}

void Server::describe_namespace(const CallPtr& call) {
  auto& info = *call->response<api::DescribeNamespaceResponse>().mutable_namespace_info();
  info.set_name(call->request<api::DescribeNamespaceRequest>().namespace_());
  info.mutable_capabilities()->set_worker_poll_complete_on_shutdown(true);
  call->answer();
}

RunPtr Server::find(const std::string& id, const std::string& run_id) const {
  if (!run_id.empty()) {
    const auto found = by_run_id_.find(run_id);
    return found == by_run_id_.end() || found->second->id != id ? nullptr : found->second;
  }
  const auto chain = runs_.find(id);
  return chain == runs_.end() ? nullptr : chain->second.back();
}

RunPtr Server::find_open(const CallPtr& call, const std::string& id, const std::string& run_id) {
  const RunPtr run = find(id, run_id);
  if (run != nullptr && run->open()) return run;
  call->refuse(grpc_code::kNotFound, run == nullptr ? "workflow not found for ID: " + id
                                                    : "workflow execution already completed");
  return nullptr;
}

RunPtr Server::start_or_find(const CallPtr& call, const api::StartWorkflowExecutionRequest& request,
                             bool& made, bool use_existing) {
  made = false;
  if (!request.cron_schedule().empty()) {
    call->refuse(grpc_code::kUnimplemented, "the testing service does not play cron schedules");
    return nullptr;
  }
  if (const RunPtr last = find(request.workflow_id(), "")) {
    if (!request.request_id().empty() && last->start_request_id == request.request_id())
      return last;
    const auto conflict = request.workflow_id_conflict_policy();
    if (last->open()) {
      if (use_existing || conflict == enums::WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING) return last;
      if (conflict != enums::WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING) {
        call->refuse(grpc_code::kAlreadyExists, "Workflow execution is already running.",
                     already_started_details(*last));
        return nullptr;
      }
      add(*last, enums::EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED)
          .mutable_workflow_execution_terminated_event_attributes()
          ->set_reason("TerminateIfRunning WorkflowIdReusePolicy Policy");
      close(last, enums::WORKFLOW_EXECUTION_STATUS_TERMINATED);
      tell_parent(last);
      close_updates(last);
    } else {
      const auto reuse = request.workflow_id_reuse_policy();
      if (reuse == enums::WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE ||
          (reuse == enums::WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY &&
           last->status == enums::WORKFLOW_EXECUTION_STATUS_COMPLETED)) {
        call->refuse(grpc_code::kAlreadyExists, "Workflow execution already finished.",
                     already_started_details(*last));
        return nullptr;
      }
    }
  }
  made = true;
  NewRun start;
  start.request = request;
  return make_run(std::move(start));
}

void Server::start_workflow(const CallPtr& call) {
  bool made = false;
  const RunPtr run = start_or_find(call, call->request<api::StartWorkflowExecutionRequest>(), made);
  if (run == nullptr) return;
  remember_callers(run, call->request<api::StartWorkflowExecutionRequest>());
  auto& response = call->response<api::StartWorkflowExecutionResponse>();
  response.set_run_id(run->run_id);
  response.set_first_execution_run_id(run->first_run_id);
  response.set_started(made);
  response.set_status(run->status);
  call->answer();
}

void Server::signal_with_start(const CallPtr& call) {
  const auto& request = call->request<api::SignalWithStartWorkflowExecutionRequest>();
  bool made = false;
  const bool replace = request.workflow_id_conflict_policy() ==
                       enums::WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING;
  const RunPtr run = start_or_find(call, start_of(request), made, !replace);
  if (run == nullptr) return;
  // The rest of its start delay is ignored, as the server does: the signal brings the first task.
  if (!made && run->task.attempt == 1) cancel_alarm(run->first_task);
  signal(run, signal_of(request, request.signal_input()));
  auto& response = call->response<api::SignalWithStartWorkflowExecutionResponse>();
  response.set_run_id(run->run_id);
  response.set_started(made);
  call->answer();
}

void Server::multi_operation(const CallPtr& call) {
  const auto& request = call->request<api::ExecuteMultiOperationRequest>();
  if (request.operations_size() != 2 || !request.operations(0).has_start_workflow() ||
      !request.operations(1).has_update_workflow()) {
    return call->refuse(grpc_code::kInvalidArgument, "a start and an update are expected");
  }
  bool made = false;
  const RunPtr run = start_or_find(call, request.operations(0).start_workflow(), made);
  if (run == nullptr) return;
  auto& response = call->response<api::ExecuteMultiOperationResponse>();
  auto& started = *response.add_responses()->mutable_start_workflow();
  started.set_run_id(run->run_id);
  started.set_first_execution_run_id(run->first_run_id);
  started.set_started(made);
  started.set_status(run->status);
  response.add_responses();
  call->update_call = OpenCall::UpdateCall::kWithStart;
  call->update_stage = request.operations(1).update_workflow().wait_policy().lifecycle_stage();
  admit(call, run, request.operations(1).update_workflow().request());
}

void Server::signal_workflow(const CallPtr& call) {
  const auto& request = call->request<api::SignalWorkflowExecutionRequest>();
  const RunPtr run = find_open(call, request.workflow_execution().workflow_id(),
                               request.workflow_execution().run_id());
  if (run == nullptr) return;
  signal(run, signal_of(request, request.input()));
  call->answer();
}

void Server::signal(const RunPtr& run, SignalAttributes signal) {
  tell(run, [this, run, signal = std::move(signal)] {
    *add(*run, enums::EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED)
         .mutable_workflow_execution_signaled_event_attributes() = signal;
  });
}

void Server::cancel_workflow(const CallPtr& call) {
  const auto& request = call->request<api::RequestCancelWorkflowExecutionRequest>();
  const std::string& id = request.workflow_execution().workflow_id();
  const std::string& run_id = request.workflow_execution().run_id();
  // Of a run that has ended it is granted, and does nothing.
  if (const RunPtr known = find(id, run_id); known != nullptr && !known->open())
    return call->answer();
  const RunPtr run = find_open(call, id, run_id);
  if (run == nullptr) return;
  request_cancel(run, request.reason());
  call->answer();
}

void Server::terminate_workflow(const CallPtr& call) {
  const auto& request = call->request<api::TerminateWorkflowExecutionRequest>();
  const RunPtr run = find_open(call, request.workflow_execution().workflow_id(),
                               request.workflow_execution().run_id());
  if (run == nullptr) return;
  if (task_in_hand_ == run && run->task.phase == WorkflowTaskState::Phase::kStarted)
    task_in_hand_.reset();
  auto& event = *add(*run, enums::EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED)
                     .mutable_workflow_execution_terminated_event_attributes();
  event.set_reason(request.reason());
  if (request.has_details()) *event.mutable_details() = request.details();
  close(run, enums::WORKFLOW_EXECUTION_STATUS_TERMINATED);
  tell_parent(run);
  close_updates(run);
  call->answer();
}

void Server::query_workflow(const CallPtr& call) {
  const auto& request = call->request<api::QueryWorkflowRequest>();
  const RunPtr run = find(request.execution().workflow_id(), request.execution().run_id());
  if (run == nullptr)
    return call->refuse(grpc_code::kNotFound,
                        "workflow not found for ID: " + request.execution().workflow_id());
  const auto condition = request.query_reject_condition();
  const bool rejected = (condition == enums::QUERY_REJECT_CONDITION_NOT_OPEN && !run->open()) ||
                        (condition == enums::QUERY_REJECT_CONDITION_NOT_COMPLETED_CLEANLY &&
                         !run->open() && run->status != enums::WORKFLOW_EXECUTION_STATUS_COMPLETED);
  if (rejected) {
    call->response<api::QueryWorkflowResponse>().mutable_query_rejected()->set_status(run->status);
    return call->answer();
  }
  run->queries.push_back({.id = new_uuid(), .call = call});
  make_ready({.kind = Ready::Kind::kQuery, .run = run});
  wait(call, run->id, false);
}

void Server::update_workflow(const CallPtr& call) {
  const auto& request = call->request<api::UpdateWorkflowExecutionRequest>();
  const std::string& id = request.workflow_execution().workflow_id();
  const RunPtr run = find(id, request.workflow_execution().run_id());
  const bool known = run != nullptr && run->updates.contains(request.request().meta().update_id());
  if (!known && find_open(call, id, request.workflow_execution().run_id()) == nullptr) return;
  call->update_stage = request.wait_policy().lifecycle_stage();
  admit(call, run, request.request());
}

void Server::admit(const CallPtr& call, const RunPtr& run,
                   const temporal::api::update::v1::Request& request) {
  const std::string& id = request.meta().update_id();
  auto [found, fresh] = run->updates.try_emplace(id);
  if (fresh) {
    found->second.request = request;
    run->update_order.push_back(id);
    schedule_task(run, true);
  }
  wait(call, run->id, true);
  answer_update(call, run, found->second);
}

// Answers if the stage that the caller waits for is reached, else notes him. The update is the
// run's, or a rejected one that the run has forgotten.
void Server::answer_update(const CallPtr& call, const RunPtr& run, const Update& update) {
  if (!call->open()) return;
  const bool completed = update.stage == Update::Stage::kCompleted;
  const auto stage = completed ? enums::UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED
                     : update.stage == Update::Stage::kAccepted
                         ? enums::UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ACCEPTED
                         : enums::UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ADMITTED;
  const auto fill = [&](auto& response) {
    response.set_stage(stage);
    response.mutable_update_ref()->set_update_id(update.request.meta().update_id());
    response.mutable_update_ref()->mutable_workflow_execution()->set_workflow_id(run->id);
    response.mutable_update_ref()->mutable_workflow_execution()->set_run_id(run->run_id);
    if (completed) *response.mutable_outcome() = update.outcome;
  };
  if (stage < call->update_stage) {
    run->updates.at(update.request.meta().update_id()).waiters.push_back(call);
    return;
  }
  if (call->update_call == OpenCall::UpdateCall::kWithStart) {
    fill(*call->response<api::ExecuteMultiOperationResponse>()
              .mutable_responses(1)
              ->mutable_update_workflow());
  } else if (call->update_call == OpenCall::UpdateCall::kPoll) {
    fill(call->response<api::PollWorkflowExecutionUpdateResponse>());
  } else {
    fill(call->response<api::UpdateWorkflowExecutionResponse>());
  }
  call->answer();
}

void Server::poll_update(const CallPtr& call) {
  const auto& request = call->request<api::PollWorkflowExecutionUpdateRequest>();
  const auto& ref = request.update_ref();
  const RunPtr run =
      find(ref.workflow_execution().workflow_id(), ref.workflow_execution().run_id());
  if (run == nullptr || !run->updates.contains(ref.update_id()))
    return call->refuse(grpc_code::kNotFound, "update " + ref.update_id() + " not found");
  call->update_call = OpenCall::UpdateCall::kPoll;
  call->update_stage = request.wait_policy().lifecycle_stage();
  wait(call, run->id, true);
  answer_update(call, run, run->updates.at(ref.update_id()));
}

void Server::describe_workflow(const CallPtr& call) {
  const auto& request = call->request<api::DescribeWorkflowExecutionRequest>();
  const RunPtr run = find(request.execution().workflow_id(), request.execution().run_id());
  if (run == nullptr)
    return call->refuse(grpc_code::kNotFound,
                        "workflow not found for ID: " + request.execution().workflow_id());
  auto& response = call->response<api::DescribeWorkflowExecutionResponse>();
  describe(*run, *response.mutable_workflow_execution_info());
  response.mutable_execution_config()->mutable_task_queue()->set_name(
      run->started().task_queue().name());
  for (const auto& [event, activity] : run->activities) {
    auto& pending = *response.add_pending_activities();
    pending.set_activity_id(activity.order.activity_id());
    *pending.mutable_activity_type() = activity.order.activity_type();
    pending.set_attempt(activity.attempt);
    if (activity.last_failure) *pending.mutable_last_failure() = *activity.last_failure;
  }
  call->answer();
}

void Server::describe(const Run& run, temporal::api::workflow::v1::WorkflowExecutionInfo& info) {
  info.mutable_execution()->set_workflow_id(run.id);
  info.mutable_execution()->set_run_id(run.run_id);
  *info.mutable_type() = run.started().workflow_type();
  info.set_task_queue(run.started().task_queue().name());
  info.set_status(run.status);
  info.set_history_length(run.last_event());
  info.set_first_run_id(run.first_run_id);
  write(run.start_time, info.mutable_start_time());
  if (!run.open()) write(run.close_time, info.mutable_close_time());
  for (const auto& [name, value] : run.memo) (*info.mutable_memo()->mutable_fields())[name] = value;
  for (const auto& [name, value] : run.search_attributes)
    (*info.mutable_search_attributes()->mutable_indexed_fields())[name] = value;
}

// Without a query only: visibility's language is not played.
void Server::list_workflows(const CallPtr& call) {
  if (!call->request<api::ListWorkflowExecutionsRequest>().query().empty())
    return call->refuse(grpc_code::kUnimplemented,
                        "the testing service lists all workflows, without a query");
  auto& response = call->response<api::ListWorkflowExecutionsResponse>();
  for (const auto& [id, chain] : runs_) {
    for (const RunPtr& run : chain) describe(*run, *response.add_executions());
  }
  call->answer();
}

void Server::count_workflows(const CallPtr& call) {
  if (!call->request<api::CountWorkflowExecutionsRequest>().query().empty())
    return call->refuse(grpc_code::kUnimplemented,
                        "the testing service counts all workflows, without a query");
  call->response<api::CountWorkflowExecutionsResponse>().set_count(
      static_cast<std::int64_t>(by_run_id_.size()));
  call->answer();
}

void Server::get_history(const CallPtr& call) {
  const auto& request = call->request<api::GetWorkflowExecutionHistoryRequest>();
  const std::string& token = request.next_page_token();
  const std::string pinned = token.substr(0, token.find(' '));
  const RunPtr run = find(request.execution().workflow_id(),
                          pinned.empty() ? request.execution().run_id() : pinned);
  if (run == nullptr)
    return call->refuse(grpc_code::kNotFound,
                        "workflow not found for ID: " + request.execution().workflow_id());
  call->history_run = run->run_id;
  if (!answer_history(call, run)) wait(call, run->id, true);
}

bool Server::answer_history(const CallPtr& call, const RunPtr& run) {
  if (call->history_run != run->run_id) return false;
  const auto& request = call->request<api::GetWorkflowExecutionHistoryRequest>();
  auto& response = call->response<api::GetWorkflowExecutionHistoryResponse>();
  const bool waits = request.wait_new_event();
  if (request.history_event_filter_type() == enums::HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT) {
    if (waits && run->open()) return false;
    *response.mutable_history()->add_events() = run->history.events(run->history.events_size() - 1);
    call->answer();
    return true;
  }
  const std::string& token = request.next_page_token();
  const auto space = token.find(' ');
  const int seen = space == std::string::npos ? 0 : std::stoi(token.substr(space + 1));
  const int until = run->history.events_size();
  if (waits && run->open() && seen == until) return false;
  for (int i = seen; i < until; ++i)
    *response.mutable_history()->add_events() = run->history.events(i);
  if (waits && run->open()) response.set_next_page_token(fmt::format("{} {}", run->run_id, until));
  call->answer();
  return true;
}

}  // namespace tempora::testing
