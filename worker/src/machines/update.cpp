#include "machines/update.hpp"

#include <fmt/format.h>

#include <tempora/failure.hpp>

#include "converter/too_large.hpp"
#include "engine/run_state.hpp"

namespace tempora::engine {

namespace update = temporal::api::update::v1;

namespace {

// What a body has at most beside the request, the outcome and the ids: its type's name, numbers.
constexpr std::size_t kEnvelopeBytes = 128;

ApplicationError without_room(std::string_view what, const std::string& id, std::size_t bytes,
                              std::size_t limit) {
  return payloads_too_large(fmt::format("the {} of update {}", what, id), bytes, limit);
}

}  // namespace

UpdateMachine::UpdateMachine(RunState& run, std::string id, std::string request_message_id,
                             std::int64_t sequencing_event_id, const update::Request& request,
                             bool replayed)
    : Machine(run),
      request_(&request),
      id_(std::move(id)),
      request_message_id_(std::move(request_message_id)),
      sequencing_event_id_(sequencing_event_id),
      replayed_(replayed) {}

void UpdateMachine::check_acceptance() const {
  const std::size_t limit = run_.answer_limit();
  const std::size_t bytes = request_->ByteSizeLong() + request_message_id_.size() + kEnvelopeBytes;
  if (bytes > limit) throw without_room("acceptance", id_, bytes, limit);
}

void UpdateMachine::accept(SourceLocation handler) {
  where_ = handler;
  update::Acceptance acceptance;
  if (run_.sends_commands()) {
    acceptance.set_accepted_request_message_id(request_message_id_);
    acceptance.set_accepted_request_sequencing_event_id(sequencing_event_id_);
    *acceptance.mutable_accepted_request() = *request_;
  }
  queue_protocol_message("accept", acceptance);
}

void UpdateMachine::reject(const temporal::api::failure::v1::Failure& failure) {
  update::Rejection rejection;
  rejection.set_rejected_request_message_id(request_message_id_);
  rejection.set_rejected_request_sequencing_event_id(sequencing_event_id_);
  *rejection.mutable_rejected_request() = *request_;
  *rejection.mutable_failure() = failure;
  const std::size_t limit = run_.answer_limit();
  const auto bytes = [&] { return rejection.ByteSizeLong() + kEnvelopeBytes; };
  if (bytes() > limit) rejection.clear_rejected_request();  // the server has it anyway
  if (const std::size_t still = bytes(); still > limit)
    *rejection.mutable_failure() = without_room("rejection", id_, still, limit).proto();
  add_message("reject", rejection);
}

void UpdateMachine::complete(const temporal::api::common::v1::Payload& result) {
  update::Response response;
  if (run_.sends_commands())
    *response.mutable_outcome()->mutable_success()->add_payloads() = result;
  respond(std::move(response));
}

void UpdateMachine::fail(const temporal::api::failure::v1::Failure& failure) {
  update::Response response;
  if (run_.sends_commands()) *response.mutable_outcome()->mutable_failure() = failure;
  respond(std::move(response));
}

void UpdateMachine::respond(update::Response response) {
  response.mutable_meta()->set_update_id(id_);
  // The caller is told, and the run goes on: the server would end it. On replay the history has
  // what was sent, and nothing is compared but the update's id.
  const std::size_t limit = run_.answer_limit();
  if (const std::size_t bytes = response.ByteSizeLong() + kEnvelopeBytes; bytes > limit) {
    const ApplicationError error = without_room("answer", id_, bytes, limit);
    run_.logger().warn("{}", error.what());
    *response.mutable_outcome()->mutable_failure() = error.proto();
  }
  queue_protocol_message("complete", response);
}

void UpdateMachine::queue_protocol_message(const char* suffix,
                                           const google::protobuf::Message& body) {
  auto command = run_.make_command(enums::COMMAND_TYPE_PROTOCOL_MESSAGE);
  if (command) {
    command->mutable_protocol_message_command_attributes()->set_message_id(
        fmt::format("{}/{}", request_message_id_, suffix));
    add_message(suffix, body);
  }
  run_.queue(enums::COMMAND_TYPE_PROTOCOL_MESSAGE, this, std::move(command), where_);
}

void UpdateMachine::add_message(const char* suffix, const google::protobuf::Message& body) {
  temporal::api::protocol::v1::Message message;
  message.set_id(fmt::format("{}/{}", request_message_id_, suffix));
  message.set_protocol_instance_id(id_);
  message.mutable_body()->PackFrom(body);
  run_.add_message(std::move(message));
}

std::string UpdateMachine::describe(enums::CommandType) const {
  return fmt::format("{} update_id \"{}\"",
                     acceptance_recorded_ ? "CompleteUpdate" : "AcceptUpdate", id_);
}

enums::EventType UpdateMachine::next_event() const {
  return acceptance_recorded_ ? enums::EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED
                              : enums::EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED;
}

bool UpdateMachine::matches(enums::CommandType, const HistoryEvent& event) const {
  return acceptance_recorded_
             ? event.workflow_execution_update_completed_event_attributes().meta().update_id() ==
                   id_
             : event.workflow_execution_update_accepted_event_attributes().protocol_instance_id() ==
                   id_;
}

void UpdateMachine::recorded(enums::CommandType, const HistoryEvent&) {
  acceptance_recorded_ = true;
}

}  // namespace tempora::engine
