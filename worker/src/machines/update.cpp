#include "machines/update.hpp"

#include <fmt/format.h>

#include "engine/run_state.hpp"

namespace tempora::engine {

namespace update = temporal::api::update::v1;

UpdateMachine::UpdateMachine(RunState& run, std::string id, std::string request_message_id,
                             std::int64_t sequencing_event_id, const update::Request& request,
                             bool replayed)
    : Machine(run),
      request_(&request),
      id_(std::move(id)),
      request_message_id_(std::move(request_message_id)),
      sequencing_event_id_(sequencing_event_id),
      replayed_(replayed) {}

void UpdateMachine::accept() {
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
  run_.queue(enums::COMMAND_TYPE_PROTOCOL_MESSAGE, this, std::move(command), {});
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
