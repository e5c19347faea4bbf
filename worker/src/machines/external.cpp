#include "machines/external.hpp"

#include <fmt/format.h>

#include <tempora/failure.hpp>

#include "engine/run_state.hpp"
#include "interceptor/chain.hpp"

namespace tempora::engine {
namespace {

std::exception_ptr not_found(const std::string& workflow_id) {
  return std::make_exception_ptr(
      ApplicationError{fmt::format("no workflow with id {} is running", workflow_id),
                       "ExternalWorkflowExecutionNotFound", true});
}

std::exception_ptr signal_failure(const std::string& workflow_id,
                                  enums::SignalExternalWorkflowExecutionFailedCause cause) {
  switch (cause) {
    case enums::SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED_CAUSE_NAMESPACE_NOT_FOUND:
      return std::make_exception_ptr(
          ApplicationError{"the namespace does not exist", "NamespaceNotFound", true});
    case enums::SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED_CAUSE_SIGNAL_COUNT_LIMIT_EXCEEDED:
      return std::make_exception_ptr(
          ApplicationError{fmt::format("workflow {} has received too many signals", workflow_id),
                           "SignalCountLimitExceeded", true});
    default: return not_found(workflow_id);
  }
}

std::exception_ptr cancel_failure(const std::string& workflow_id,
                                  enums::CancelExternalWorkflowExecutionFailedCause cause) {
  if (cause == enums::CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED_CAUSE_NAMESPACE_NOT_FOUND) {
    return std::make_exception_ptr(
        ApplicationError{"the namespace does not exist", "NamespaceNotFound", true});
  }
  return not_found(workflow_id);
}

}  // namespace

SignalExternalMachine::SignalExternalMachine(RunState& run, detail::Ref<detail::FutureState> future,
                                             detail::WorkflowTarget target, std::string signal,
                                             SourceLocation where)
    : Machine(run),
      future_(std::move(future)),
      target_(std::move(target)),
      signal_(std::move(signal)),
      where_(where) {
  future_->owner = this;
}

SignalExternalMachine::~SignalExternalMachine() {
  if (future_ && future_->owner == this) future_->owner = nullptr;
}

void SignalExternalMachine::send(Payloads input) {
  const Headers headers = run_.outbound(OutboundCall::Kind::kSignal, signal_);
  auto command = run_.make_command(enums::COMMAND_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION);
  if (command) {
    auto& attributes = *command->mutable_signal_external_workflow_execution_command_attributes();
    attributes.mutable_execution()->set_workflow_id(target_.id);
    attributes.mutable_execution()->set_run_id(target_.run_id);
    attributes.set_signal_name(signal_);
    if (input.payloads_size() > 0) *attributes.mutable_input() = std::move(input);
    if (!headers.empty()) detail::write_headers(headers, attributes.mutable_header());
    attributes.set_child_workflow_only(target_.child_only);
  }
  run_.queue(enums::COMMAND_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION, this, std::move(command),
             where_);
}

void SignalExternalMachine::cancel(const std::string& reason) {
  const detail::Ref<SignalExternalMachine> self{this};
  if (!run_.drop_unsent(*this, enums::COMMAND_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION)) return;
  future_->fail(std::make_exception_ptr(CanceledError{reason.empty() ? "canceled" : reason}));
  future_ = {};
}

std::string SignalExternalMachine::describe(enums::CommandType type) const {
  return fmt::format("{} workflow_id \"{}\" signal_name \"{}\"", name_of(type), target_.id,
                     signal_);
}

bool SignalExternalMachine::matches(enums::CommandType, const HistoryEvent& event) const {
  const auto& initiated = event.signal_external_workflow_execution_initiated_event_attributes();
  return initiated.workflow_execution().workflow_id() == target_.id &&
         initiated.signal_name() == signal_;
}

void SignalExternalMachine::recorded(enums::CommandType, const HistoryEvent& event) {
  initiated_event_id_ = event.event_id();
  run_.expect_events(initiated_event_id_, this);
}

bool SignalExternalMachine::on_event(const HistoryEvent& event) {
  if (!future_) return false;
  const detail::Ref<SignalExternalMachine> self{this};
  if (event.event_type() == enums::EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_SIGNALED) {
    future_->fulfil();
  } else if (event.event_type() == enums::EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED) {
    future_->fail(signal_failure(
        target_.id, event.signal_external_workflow_execution_failed_event_attributes().cause()));
  } else {
    return false;
  }
  run_.forget_events(initiated_event_id_);
  future_ = {};
  return true;
}

void CancelExternalMachine::send(const std::string& reason) {
  auto command = run_.make_command(enums::COMMAND_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION);
  if (command) {
    auto& attributes =
        *command->mutable_request_cancel_external_workflow_execution_command_attributes();
    attributes.set_workflow_id(target_.id);
    attributes.set_run_id(target_.run_id);
    attributes.set_child_workflow_only(target_.child_only);
    attributes.set_reason(reason);
  }
  run_.queue(enums::COMMAND_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION, this,
             std::move(command), where_);
}

void CancelExternalMachine::drop() {
  listener_ = nullptr;
  run_.drop_unsent(*this, enums::COMMAND_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION);
}

std::string CancelExternalMachine::describe(enums::CommandType type) const {
  return fmt::format("{} workflow_id \"{}\"", name_of(type), target_.id);
}

bool CancelExternalMachine::matches(enums::CommandType, const HistoryEvent& event) const {
  return event.request_cancel_external_workflow_execution_initiated_event_attributes()
             .workflow_execution()
             .workflow_id() == target_.id;
}

void CancelExternalMachine::recorded(enums::CommandType, const HistoryEvent& event) {
  initiated_event_id_ = event.event_id();
  run_.expect_events(initiated_event_id_, this);
}

bool CancelExternalMachine::on_event(const HistoryEvent& event) {
  const detail::Ref<CancelExternalMachine> self{this};
  if (event.event_type() == enums::EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED) {
    if (future_) future_->fulfil();
  } else if (event.event_type() ==
             enums::EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED) {
    if (future_) {
      future_->fail(cancel_failure(
          target_.id,
          event.request_cancel_external_workflow_execution_failed_event_attributes().cause()));
    }
  } else {
    return false;
  }
  run_.forget_events(initiated_event_id_);
  future_ = {};
  if (listener_ != nullptr) listener_->cancel_answered();
  return true;
}

}  // namespace tempora::engine
