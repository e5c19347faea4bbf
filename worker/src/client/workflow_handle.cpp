#include <google/protobuf/util/json_util.h>
#include <temporal/api/history/v1/message.pb.h>

#include <tempora/client.hpp>

#include "client_core.hpp"
#include "describe.hpp"

namespace tempora {

using detail::Access;
using detail::Limit;
namespace api = temporal::api::workflowservice::v1;
namespace enums = temporal::api::enums::v1;

namespace {

constexpr int kMaxHistoryPages = 10'000;  // the server ends a run long before

template <class T>
Outcome<void> without_value(const Outcome<T>& outcome) {
  if (!outcome) return std::unexpected(outcome.error());
  return {};
}

// How a run ended: its result, an error, or the run that goes on.
struct RunEnd {
  std::string next_run_id;
  Outcome<Payloads> outcome;
};

ClientError ended(ErrorCode code, std::string message, std::shared_ptr<const Failure> failure) {
  ClientError error;
  error.code = code;
  error.message = std::move(message);
  error.failure = std::move(failure);
  return error;
}

RunEnd continued(
    const temporal::api::history::v1::WorkflowExecutionContinuedAsNewEventAttributes& event) {
  ClientError error =
      ended(ErrorCode::kWorkflowContinued, "the workflow goes on as another run", nullptr);
  error.run_id = event.new_execution_run_id();
  return {event.new_execution_run_id(), std::unexpected(std::move(error))};
}

FailureProto canceled_failure(const Payloads& details) {
  FailureProto failure;
  failure.set_message("Workflow execution canceled");
  *failure.mutable_canceled_failure_info()->mutable_details() = details;
  return failure;
}

FailureProto terminated_failure(const std::string& reason) {
  FailureProto failure;
  failure.set_message(reason.empty() ? "Workflow execution terminated" : reason);
  failure.mutable_terminated_failure_info();
  return failure;
}

FailureProto timeout_failure() {
  FailureProto failure;
  failure.set_message("Workflow execution timed out");
  failure.mutable_timeout_failure_info()->set_timeout_type(enums::TIMEOUT_TYPE_START_TO_CLOSE);
  return failure;
}

RunEnd run_end(const temporal::api::history::v1::HistoryEvent& event) {
  switch (event.event_type()) {
    case enums::EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED: {
      const auto& end = event.workflow_execution_completed_event_attributes();
      return {end.new_execution_run_id(), end.result()};
    }
    case enums::EVENT_TYPE_WORKFLOW_EXECUTION_FAILED: {
      const auto& end = event.workflow_execution_failed_event_attributes();
      return {end.new_execution_run_id(),
              std::unexpected(ended(ErrorCode::kWorkflowFailed, end.failure().message(),
                                    to_failure(end.failure())))};
    }
    case enums::EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT: {
      const auto& end = event.workflow_execution_timed_out_event_attributes();
      return {end.new_execution_run_id(),
              std::unexpected(ended(ErrorCode::kWorkflowTimedOut, "the workflow timed out",
                                    to_failure(timeout_failure())))};
    }
    case enums::EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED: {
      const auto& end = event.workflow_execution_canceled_event_attributes();
      return {"", std::unexpected(ended(ErrorCode::kWorkflowCanceled, "the workflow was cancelled",
                                        to_failure(canceled_failure(end.details()))))};
    }
    case enums::EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED: {
      const auto failure =
          terminated_failure(event.workflow_execution_terminated_event_attributes().reason());
      return {"", std::unexpected(ended(ErrorCode::kWorkflowTerminated, failure.message(),
                                        to_failure(failure)))};
    }
    case enums::EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW:
      return continued(event.workflow_execution_continued_as_new_event_attributes());
    default:
      return {"", std::unexpected(ended(ErrorCode::kServer,
                                        "the last event of the run is not an end: " +
                                            enums::EventType_Name(event.event_type()),
                                        nullptr))};
  }
}

// Waits for the event that ends the run.
Outcome<temporal::api::history::v1::HistoryEvent> close_event(const detail::ClientCore& core,
                                                              const std::string& id,
                                                              const std::string& run_id,
                                                              const Limit& limit) {
  auto request =
      detail::execution_request<api::GetWorkflowExecutionHistoryRequest>(core, id, run_id);
  request.set_wait_new_event(true);
  request.set_history_event_filter_type(enums::HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT);
  request.set_skip_archival(true);
  for (;;) {
    auto response = core.call<api::GetWorkflowExecutionHistoryResponse>(
        methods::kGetHistory, request, id, Access::kReads, limit.long_poll_plan());
    if (response && response->history().events_size() > 0) {
      return std::move(*response->mutable_history()->mutable_events()->rbegin());
    }
    if (limit.over()) {
      return std::unexpected(
          detail::time_limit("the workflow has not ended yet", "result of " + id, false));
    }
    if (!response) return std::unexpected(std::move(response.error()));
    request.set_next_page_token(response->next_page_token());  // it pins the run, too
  }
}

}  // namespace

WorkflowHandle detail::ClientCore::handle(std::string id, std::string run_id,
                                          std::string first_run_id) const {
  WorkflowHandle made;
  made.core_ = shared_from_this();
  made.id_ = std::move(id);
  made.run_id_ = std::move(run_id);
  made.first_run_id_ = std::move(first_run_id);
  return made;
}

Outcome<Payloads> WorkflowHandle::result_payloads(ResultOptions options) const {
  const Limit limit{core_->caller.clock(), options.limit};
  std::string run_id = run_id_.empty() ? started_run_id_ : run_id_;
  for (;;) {
    const auto event = close_event(*core_, id_, run_id, limit);
    if (!event) return std::unexpected(event.error());
    RunEnd end = run_end(*event);
    if (options.follow_runs && !end.next_run_id.empty()) {
      run_id = std::move(end.next_run_id);
      continue;
    }
    if (!end.outcome) end.outcome.error().where = "result of " + id_;
    return std::move(end.outcome);
  }
}

Outcome<void> WorkflowHandle::signal_payloads(std::string_view name, Payloads input) const {
  auto request =
      detail::execution_request<api::SignalWorkflowExecutionRequest>(*core_, id_, run_id_);
  request.set_signal_name(std::string{name});
  if (input.payloads_size() > 0) *request.mutable_input() = std::move(input);
  request.set_identity(core_->identity);
  request.set_request_id(detail::random_uuid());
  return without_value(core_->call<api::SignalWorkflowExecutionResponse>(
      methods::kSignalWorkflow, request, id_, Access::kWrites));
}

Outcome<Payloads> WorkflowHandle::query_payloads(std::string_view name, QueryOptions options,
                                                 Payloads input) const {
  auto request = detail::execution_request<api::QueryWorkflowRequest>(*core_, id_, run_id_);
  request.mutable_query()->set_query_type(std::string{name});
  if (input.payloads_size() > 0) *request.mutable_query()->mutable_query_args() = std::move(input);
  request.set_query_reject_condition(
      static_cast<enums::QueryRejectCondition>(static_cast<int>(options.reject) + 1));
  CallPlan plan = core_->plan();
  if (options.limit > Duration::zero()) {
    plan.attempt_deadline = plan.budget =
        std::chrono::ceil<std::chrono::milliseconds>(options.limit);
  }
  auto response = core_->call<api::QueryWorkflowResponse>(methods::kQueryWorkflow, request, id_,
                                                          Access::kReads, plan);
  if (!response) return std::unexpected(std::move(response.error()));
  if (response->has_query_rejected()) {
    const auto status = static_cast<WorkflowStatus>(response->query_rejected().status());
    ClientError error = ended(ErrorCode::kQueryRejected,
                              "the workflow is " + std::string{to_string(status)}, nullptr);
    error.where = "query " + std::string{name} + " of " + id_;
    return std::unexpected(std::move(error));
  }
  return std::move(*response->mutable_query_result());
}

Outcome<WorkflowDescription> WorkflowHandle::describe() const {
  const auto request =
      detail::execution_request<api::DescribeWorkflowExecutionRequest>(*core_, id_, run_id_);
  const auto response = core_->call<api::DescribeWorkflowExecutionResponse>(
      methods::kDescribeWorkflow, request, id_, Access::kReads);
  if (!response) return std::unexpected(response.error());
  WorkflowDescription description = detail::to_description(response->workflow_execution_info());
  if (description.task_queue.empty())
    description.task_queue = response->execution_config().task_queue().name();
  for (const auto& info : response->pending_activities()) {
    description.pending_activities.push_back(detail::to_pending(info));
  }
  return description;
}

Outcome<void> WorkflowHandle::cancel(std::string_view reason) const {
  auto request =
      detail::execution_request<api::RequestCancelWorkflowExecutionRequest>(*core_, id_, run_id_);
  request.set_identity(core_->identity);
  request.set_request_id(detail::random_uuid());
  request.set_first_execution_run_id(first_run_id_);
  request.set_reason(std::string{reason});
  return without_value(core_->call<api::RequestCancelWorkflowExecutionResponse>(
      methods::kCancelWorkflow, request, id_, Access::kWrites));
}

Outcome<void> WorkflowHandle::terminate(std::string_view reason, Payloads details) const {
  auto request =
      detail::execution_request<api::TerminateWorkflowExecutionRequest>(*core_, id_, run_id_);
  request.set_identity(core_->identity);
  request.set_first_execution_run_id(first_run_id_);
  request.set_reason(std::string{reason});
  if (details.payloads_size() > 0) *request.mutable_details() = std::move(details);
  return without_value(core_->call<api::TerminateWorkflowExecutionResponse>(
      methods::kTerminateWorkflow, request, id_, Access::kWrites));
}

Outcome<void> WorkflowHandle::for_each_event(
    const std::function<bool(const temporal::api::history::v1::HistoryEvent&)>& visit) const {
  auto request =
      detail::execution_request<api::GetWorkflowExecutionHistoryRequest>(*core_, id_, run_id_);
  for (int page = 0; page < kMaxHistoryPages; ++page) {
    const auto response = core_->call<api::GetWorkflowExecutionHistoryResponse>(
        methods::kGetHistory, request, id_, Access::kReads);
    if (!response) return std::unexpected(response.error());
    for (const auto& event : response->history().events()) {
      if (!visit(event)) return {};
    }
    if (response->next_page_token().empty()) return {};
    request.set_next_page_token(response->next_page_token());  // it pins the run, too
  }
  return std::unexpected(ended(ErrorCode::kServer, "the history has too many pages", nullptr));
}

Outcome<std::shared_ptr<const History>> WorkflowHandle::history() const {
  auto history = std::make_shared<History>();
  const auto read = for_each_event([&](const auto& event) {
    *history->add_events() = event;
    return true;
  });
  if (!read) return std::unexpected(read.error());
  return history;
}

Outcome<std::string> WorkflowHandle::history_json() const {
  const auto events = history();
  if (!events) return std::unexpected(events.error());
  std::string text;
  const auto status = google::protobuf::util::MessageToJsonString(**events, &text);
  if (!status.ok()) {
    ClientError error = ended(ErrorCode::kUndecodable, std::string{status.message()}, nullptr);
    error.where = "history of " + id_;
    return std::unexpected(std::move(error));
  }
  return text;
}

}  // namespace tempora
