#include "machines/child.hpp"

#include <fmt/format.h>

#include <tempora/failure.hpp>

#include "converter/options.hpp"
#include "engine/run_state.hpp"
#include "interceptor/chain.hpp"

namespace tempora::engine {
namespace {

enums::ParentClosePolicy to_proto(ParentClosePolicy policy) {
  switch (policy) {
    case ParentClosePolicy::kTerminate: return enums::PARENT_CLOSE_POLICY_TERMINATE;
    case ParentClosePolicy::kAbandon: return enums::PARENT_CLOSE_POLICY_ABANDON;
    case ParentClosePolicy::kRequestCancel: return enums::PARENT_CLOSE_POLICY_REQUEST_CANCEL;
  }
  return enums::PARENT_CLOSE_POLICY_UNSPECIFIED;
}

enums::WorkflowIdReusePolicy to_proto(IdReusePolicy policy) {
  switch (policy) {
    case IdReusePolicy::kAllowDuplicate: return enums::WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE;
    case IdReusePolicy::kAllowDuplicateFailedOnly:
      return enums::WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY;
    case IdReusePolicy::kRejectDuplicate: return enums::WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE;
  }
  return enums::WORKFLOW_ID_REUSE_POLICY_UNSPECIFIED;
}

FailureProto start_failure(const std::string& id,
                           enums::StartChildWorkflowExecutionFailedCause cause) {
  switch (cause) {
    case enums::START_CHILD_WORKFLOW_EXECUTION_FAILED_CAUSE_WORKFLOW_ALREADY_EXISTS:
      return ApplicationError{fmt::format("a workflow with id {} exists", id),
                              "WorkflowExecutionAlreadyStarted", true}
          .proto();
    case enums::START_CHILD_WORKFLOW_EXECUTION_FAILED_CAUSE_NAMESPACE_NOT_FOUND:
      return ApplicationError{"the namespace does not exist", "NamespaceNotFound", true}.proto();
    default:
      return ApplicationError{
          fmt::format("the server refused the start: {}",
                      enums::StartChildWorkflowExecutionFailedCause_Name(cause)),
          "StartFailed", true}
          .proto();
  }
}

FailureProto plain_failure(std::string message) {
  FailureProto proto;
  proto.set_message(std::move(message));
  proto.set_source("tempora");
  return proto;
}

}  // namespace

ChildMachine::ChildMachine(RunState& run, detail::Ref<StartedState> started,
                           detail::Ref<detail::FutureState> result, std::string id,
                           std::string type, ChildCancellationType cancellation,
                           SourceLocation where)
    : Machine(run),
      started_(std::move(started)),
      result_(std::move(result)),
      id_(std::move(id)),
      type_(std::move(type)),
      where_(where),
      cancellation_(cancellation) {
  started_->owner = this;
  result_->owner = this;
}

ChildMachine::~ChildMachine() {
  if (started_->owner == this) started_->owner = nullptr;
  if (result_->owner == this) result_->owner = nullptr;
  if (request_) request_->tell(nullptr);
}

void ChildMachine::start(const ChildWorkflowOptions& options, Payloads input) {
  const Headers headers = run_.outbound(OutboundCall::Kind::kChild, type_);
  auto command = run_.make_command(enums::COMMAND_TYPE_START_CHILD_WORKFLOW_EXECUTION);
  if (command) {
    auto& child = *command->mutable_start_child_workflow_execution_command_attributes();
    child.set_workflow_id(id_);
    child.mutable_workflow_type()->set_name(type_);
    child.mutable_task_queue()->set_name(options.task_queue.empty() ? run_.task_queue()
                                                                    : options.task_queue);
    if (input.payloads_size() > 0) *child.mutable_input() = std::move(input);
    if (!headers.empty()) detail::write_headers(headers, child.mutable_header());
    const auto set = [](Duration timeout, auto&& field) {
      if (timeout > Duration{}) write(timeout, field());
    };
    set(options.execution_timeout, [&] { return child.mutable_workflow_execution_timeout(); });
    set(options.run_timeout, [&] { return child.mutable_workflow_run_timeout(); });
    set(options.task_timeout, [&] { return child.mutable_workflow_task_timeout(); });
    child.set_parent_close_policy(to_proto(options.parent_close));
    child.set_workflow_id_reuse_policy(to_proto(options.reuse));
    if (options.retry) write(*options.retry, child.mutable_retry_policy());
    child.set_cron_schedule(options.cron);
    for (const auto& [name, payload] : options.memo)
      (*child.mutable_memo()->mutable_fields())[name] = payload;
    if (!options.search_attributes.empty())
      options.search_attributes.write(child.mutable_search_attributes());
    if (is_set(options.priority)) write(options.priority, child.mutable_priority());
    write_metadata(options.summary, options.details, *command);
  }
  run_.queue(enums::COMMAND_TYPE_START_CHILD_WORKFLOW_EXECUTION, this, std::move(command), where_);
}

void ChildMachine::cancel(const std::string& reason) {
  const detail::Ref<ChildMachine> self{this};
  switch (state_) {
    case State::kCreated:
      // Start and cancel in one task would be refused by the server.
      run_.drop_unsent(*this, enums::COMMAND_TYPE_START_CHILD_WORKFLOW_EXECUTION);
      state_ = State::kFinal;
      fail_as_cancelled(reason);
      return;
    case State::kRecorded:
      if (cancellation_ != ChildCancellationType::kAbandon) request_cancel(reason);
      if (cancellation_ == ChildCancellationType::kTryCancel ||
          cancellation_ == ChildCancellationType::kAbandon) {
        state_ = State::kAbandoned;
        fail_as_cancelled(reason);
      } else {
        state_ = State::kCancelRequested;
      }
      return;
    case State::kCancelRequested:
    case State::kAbandoned:
    case State::kFinal: return;
  }
}

void ChildMachine::request_cancel(const std::string& reason) {
  request_ = detail::make_ref<CancelExternalMachine>(run_, detail::Ref<detail::FutureState>{},
                                                     detail::WorkflowTarget{id_, {}, true}, where_);
  if (cancellation_ == ChildCancellationType::kWaitRequested) {
    request_->tell(this);
    cancel_reason_ = reason;
  }
  request_->send(reason);
}

// A refusal means that the child is not there any more: then there is nothing to wait for either.
void ChildMachine::cancel_answered() { fail_as_cancelled(cancel_reason_); }

std::string ChildMachine::describe(enums::CommandType type) const {
  return fmt::format("{} workflow_id \"{}\" workflow_type \"{}\"", name_of(type), id_, type_);
}

bool ChildMachine::matches(enums::CommandType, const HistoryEvent& event) const {
  const auto& initiated = event.start_child_workflow_execution_initiated_event_attributes();
  return initiated.workflow_id() == id_ && initiated.workflow_type().name() == type_;
}

void ChildMachine::recorded(enums::CommandType, const HistoryEvent& event) {
  state_ = State::kRecorded;
  initiated_event_id_ = event.event_id();
  run_.expect_events(initiated_event_id_, this);
}

bool ChildMachine::on_event(const HistoryEvent& event) {
  if (state_ == State::kCreated || state_ == State::kFinal) return false;
  const detail::Ref<ChildMachine> self{this};
  switch (event.event_type()) {
    case enums::EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED: {
      const auto& started = event.child_workflow_execution_started_event_attributes();
      run_id_ = started.workflow_execution().run_id();
      started_event_id_ = event.event_id();
      if (started_->pending()) started_->set(run_id_);
      return true;
    }
    case enums::EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_FAILED:
      close();
      fail(fmt::format("child workflow {} was not started", type_),
           enums::RETRY_STATE_NON_RETRYABLE_FAILURE,
           start_failure(id_,
                         event.start_child_workflow_execution_failed_event_attributes().cause()));
      return true;
    default: return on_end(event);
  }
}

bool ChildMachine::on_end(const HistoryEvent& event) {
  switch (event.event_type()) {
    case enums::EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED: {
      close();
      const Payloads& result = event.child_workflow_execution_completed_event_attributes().result();
      run_.fulfil(*result_, result.payloads_size() > 0 ? &result.payloads(0) : nullptr);
      return true;
    }
    case enums::EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_FAILED: {
      close();
      const auto& failed = event.child_workflow_execution_failed_event_attributes();
      fail(fmt::format("child workflow {} failed", type_), failed.retry_state(), failed.failure());
      return true;
    }
    case enums::EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_CANCELED: {
      close();
      FailureProto cause = CanceledError{"child workflow canceled"}.proto();
      *cause.mutable_canceled_failure_info()->mutable_details() =
          event.child_workflow_execution_canceled_event_attributes().details();
      fail(fmt::format("child workflow {} canceled", type_), enums::RETRY_STATE_CANCEL_REQUESTED,
           cause);
      return true;
    }
    case enums::EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TIMED_OUT: {
      close();
      FailureProto cause = plain_failure("child workflow timed out");
      cause.mutable_timeout_failure_info()->set_timeout_type(enums::TIMEOUT_TYPE_START_TO_CLOSE);
      fail(fmt::format("child workflow {} timed out", type_),
           event.child_workflow_execution_timed_out_event_attributes().retry_state(), cause);
      return true;
    }
    case enums::EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TERMINATED: {
      close();
      FailureProto cause = plain_failure("child workflow terminated");
      cause.mutable_terminated_failure_info();
      fail(fmt::format("child workflow {} terminated", type_),
           enums::RETRY_STATE_NON_RETRYABLE_FAILURE, cause);
      return true;
    }
    default: return false;
  }
}

void ChildMachine::close() {
  // The end came before our request was sent.
  if (request_) request_->drop();
  request_ = {};
  state_ = State::kFinal;
  run_.forget_events(initiated_event_id_);
}

void ChildMachine::fail(std::string message, enums::RetryState retry_state,
                        const FailureProto& cause) {
  FailureProto proto = plain_failure(std::move(message));
  *proto.mutable_cause() = cause;
  auto& info = *proto.mutable_child_workflow_execution_failure_info();
  info.set_namespace_(run_.info().namespace_);
  info.mutable_workflow_execution()->set_workflow_id(id_);
  info.mutable_workflow_execution()->set_run_id(run_id_);
  info.mutable_workflow_type()->set_name(type_);
  info.set_initiated_event_id(initiated_event_id_);
  info.set_started_event_id(started_event_id_);
  info.set_retry_state(retry_state);
  const std::exception_ptr error = std::make_exception_ptr(ChildWorkflowError{std::move(proto)});
  started_->fail(error);
  result_->fail(error);
}

void ChildMachine::fail_as_cancelled(const std::string& reason) {
  fail(fmt::format("child workflow {} canceled", type_), enums::RETRY_STATE_CANCEL_REQUESTED,
       CanceledError{reason.empty() ? "canceled" : reason}.proto());
}

}  // namespace tempora::engine
