#include "machines/nexus.hpp"

#include <fmt/format.h>

#include "converter/options.hpp"
#include "engine/run_state.hpp"

namespace tempora::engine {
namespace {

// Headers of Nexus are texts; what an interceptor gives as something else has no place there.
void write_headers(const Headers& given, google::protobuf::Map<std::string, std::string>* headers) {
  for (const auto& [name, payload] : given) {
    try {
      (*headers)[name] = PayloadCodec<std::string>::decode(payload);
    } catch (const PayloadError&) {
      continue;
    }
  }
}

}  // namespace

NexusMachine::NexusMachine(RunState& run, detail::Ref<StartedState> started,
                           detail::Ref<detail::FutureState> result,
                           const detail::NexusRequest& request)
    : Machine(run),
      started_(std::move(started)),
      result_(std::move(result)),
      endpoint_(request.endpoint),
      service_(request.service),
      operation_(request.operation),
      where_(request.where),
      cancellation_(request.options.cancellation) {
  started_->owner = this;
  result_->owner = this;
}

NexusMachine::~NexusMachine() {
  if (started_->owner == this) started_->owner = nullptr;
  if (result_->owner == this) result_->owner = nullptr;
}

void NexusMachine::schedule(detail::NexusRequest request) {
  const NexusOperationOptions& options = request.options;
  const Headers headers = run_.outbound(OutboundCall::Kind::kNexus, operation_);
  auto command = run_.make_command(enums::COMMAND_TYPE_SCHEDULE_NEXUS_OPERATION);
  if (command) {
    auto& order = *command->mutable_schedule_nexus_operation_command_attributes();
    order.set_endpoint(endpoint_);
    order.set_service(service_);
    order.set_operation(operation_);
    if (request.input) *order.mutable_input() = std::move(*request.input);
    if (options.schedule_to_close > Duration{})
      write(options.schedule_to_close, order.mutable_schedule_to_close_timeout());
    if (options.schedule_to_start > Duration{})
      write(options.schedule_to_start, order.mutable_schedule_to_start_timeout());
    if (options.start_to_close > Duration{})
      write(options.start_to_close, order.mutable_start_to_close_timeout());
    write_headers(headers, order.mutable_nexus_header());
    for (const auto& [name, text] : options.headers) (*order.mutable_nexus_header())[name] = text;
    write_metadata(options.summary, {}, *command);
  }
  run_.queue(enums::COMMAND_TYPE_SCHEDULE_NEXUS_OPERATION, this, std::move(command), where_);
}

void NexusMachine::cancel(const std::string& reason) {
  const detail::Ref<NexusMachine> self{this};
  switch (state_) {
    case State::kCreated:
      run_.drop_unsent(*this, enums::COMMAND_TYPE_SCHEDULE_NEXUS_OPERATION);
      state_ = State::kFinal;
      fail_as_cancelled(reason);
      return;
    case State::kRecorded:
      if (cancellation_ != NexusCancellationType::kAbandon) request_cancel();
      if (cancellation_ == NexusCancellationType::kTryCancel ||
          cancellation_ == NexusCancellationType::kAbandon) {
        state_ = State::kAbandoned;
        fail_as_cancelled(reason);
      } else {
        state_ = State::kCancelRequested;
        cancel_reason_ = reason;
      }
      return;
    case State::kCancelRequested:
    case State::kAbandoned:
    case State::kFinal: return;
  }
}

void NexusMachine::request_cancel() {
  auto command = run_.make_command(enums::COMMAND_TYPE_REQUEST_CANCEL_NEXUS_OPERATION);
  if (command) {
    command->mutable_request_cancel_nexus_operation_command_attributes()->set_scheduled_event_id(
        scheduled_event_id_);
  }
  run_.queue(enums::COMMAND_TYPE_REQUEST_CANCEL_NEXUS_OPERATION, this, std::move(command), where_);
}

std::string NexusMachine::describe(enums::CommandType type) const {
  const std::string names = fmt::format("service \"{}\" operation \"{}\"", service_, operation_);
  if (type == enums::COMMAND_TYPE_REQUEST_CANCEL_NEXUS_OPERATION) {
    return fmt::format("{} scheduled_event_id {} ({})", name_of(type), scheduled_event_id_, names);
  }
  return fmt::format("{} {}", name_of(type), names);
}

bool NexusMachine::matches(enums::CommandType type, const HistoryEvent& event) const {
  if (type == enums::COMMAND_TYPE_REQUEST_CANCEL_NEXUS_OPERATION) {
    return event.nexus_operation_cancel_requested_event_attributes().scheduled_event_id() ==
           scheduled_event_id_;
  }
  const auto& scheduled = event.nexus_operation_scheduled_event_attributes();
  return scheduled.service() == service_ && scheduled.operation() == operation_;
}

void NexusMachine::recorded(enums::CommandType type, const HistoryEvent& event) {
  if (type == enums::COMMAND_TYPE_REQUEST_CANCEL_NEXUS_OPERATION) return;
  state_ = State::kRecorded;
  scheduled_event_id_ = event.event_id();
  run_.expect_events(scheduled_event_id_, this);
}

bool NexusMachine::on_event(const HistoryEvent& event) {
  if (state_ == State::kCreated || state_ == State::kFinal) return false;
  const detail::Ref<NexusMachine> self{this};
  switch (event.event_type()) {
    case enums::EVENT_TYPE_NEXUS_OPERATION_STARTED: {
      const auto& started = event.nexus_operation_started_event_attributes();
      token_ = started.operation_token();
      if (started_->pending()) started_->set(token_);
      return true;
    }
    case enums::EVENT_TYPE_NEXUS_OPERATION_COMPLETED: {
      close();
      const auto& completed = event.nexus_operation_completed_event_attributes();
      if (started_->pending()) started_->set({});
      run_.fulfil(*result_, completed.has_result() ? &completed.result() : nullptr);
      return true;
    }
    case enums::EVENT_TYPE_NEXUS_OPERATION_FAILED:
      close();
      fail_with(event.nexus_operation_failed_event_attributes().failure());
      return true;
    case enums::EVENT_TYPE_NEXUS_OPERATION_CANCELED:
      close();
      fail_with(event.nexus_operation_canceled_event_attributes().failure());
      return true;
    case enums::EVENT_TYPE_NEXUS_OPERATION_TIMED_OUT:
      close();
      fail_with(event.nexus_operation_timed_out_event_attributes().failure());
      return true;
    case enums::EVENT_TYPE_NEXUS_OPERATION_CANCEL_REQUEST_COMPLETED:
      cancel_answered(nullptr);
      return true;
    case enums::EVENT_TYPE_NEXUS_OPERATION_CANCEL_REQUEST_FAILED:
      cancel_answered(&event.nexus_operation_cancel_request_failed_event_attributes().failure());
      return true;
    default: return false;
  }
}

void NexusMachine::cancel_answered(const FailureProto* refusal) {
  if (state_ != State::kCancelRequested || cancellation_ != NexusCancellationType::kWaitRequested)
    return;
  state_ = State::kAbandoned;
  if (refusal == nullptr) return fail_as_cancelled(cancel_reason_);
  fail(fmt::format("Nexus operation {} could not be cancelled", operation_), *refusal);
}

void NexusMachine::close() {
  // The end came before our request to cancel was sent.
  if (state_ != State::kRecorded)
    run_.drop_unsent(*this, enums::COMMAND_TYPE_REQUEST_CANCEL_NEXUS_OPERATION);
  state_ = State::kFinal;
  run_.forget_events(scheduled_event_id_);
}

// The server has put its own frame around the cause already.
void NexusMachine::fail_with(const FailureProto& failure) {
  if (!failure.has_nexus_operation_execution_failure_info())
    return fail(fmt::format("Nexus operation {} failed", operation_), failure);
  const std::exception_ptr error = std::make_exception_ptr(NexusOperationError{failure});
  started_->fail(error);
  result_->fail(error);
}

void NexusMachine::fail(std::string message, const FailureProto& cause) {
  FailureProto proto;
  proto.set_message(std::move(message));
  proto.set_source("tempora");
  *proto.mutable_cause() = cause;
  auto& info = *proto.mutable_nexus_operation_execution_failure_info();
  info.set_scheduled_event_id(scheduled_event_id_);
  info.set_endpoint(endpoint_);
  info.set_service(service_);
  info.set_operation(operation_);
  info.set_operation_token(token_);
  fail_with(proto);
}

void NexusMachine::fail_as_cancelled(const std::string& reason) {
  fail(fmt::format("Nexus operation {} canceled", operation_),
       CanceledError{reason.empty() ? "canceled" : reason}.proto());
}

}  // namespace tempora::engine
