#include "testing/command_events.hpp"

#include <temporal/api/update/v1/message.pb.h>

#include <algorithm>

#include "machines/machine.hpp"

namespace tempora::testing {
namespace {

namespace enums = temporal::api::enums::v1;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using temporal::api::command::v1::Command;
using temporal::api::history::v1::HistoryEvent;

bool same_kind(const FieldDescriptor& a, const FieldDescriptor& b) {
  if (a.is_map() && b.is_map())  // their entries are types of their own
    return a.message_type()->FindFieldByName("value")->message_type() ==
           b.message_type()->FindFieldByName("value")->message_type();
  return a.type() == b.type() && a.is_repeated() == b.is_repeated() &&
         a.message_type() == b.message_type();
}

// What a command and its event have in common bears the same name and type in both.
void copy_same_fields(const Message& from, Message& to) {
  std::vector<const FieldDescriptor*> set;
  from.GetReflection()->ListFields(from, &set);
  for (const FieldDescriptor* field : set) {
    const FieldDescriptor* target = to.GetDescriptor()->FindFieldByName(field->name());
    if (target == nullptr || !same_kind(*field, *target)) continue;
    const auto* in = from.GetReflection();
    const auto* out = to.GetReflection();
    if (field->is_repeated()) {
      for (int i = 0; i < in->FieldSize(from, field); ++i)
        out->AddMessage(&to, target)
            ->ParseFromString(in->GetRepeatedMessage(from, field, i).SerializeAsString());
      continue;
    }
    switch (field->cpp_type()) {
      case FieldDescriptor::CPPTYPE_MESSAGE:
        out->MutableMessage(&to, target)->CopyFrom(in->GetMessage(from, field));
        break;
      case FieldDescriptor::CPPTYPE_STRING:
        out->SetString(&to, target, in->GetString(from, field));
        break;
      case FieldDescriptor::CPPTYPE_INT64:
        out->SetInt64(&to, target, in->GetInt64(from, field));
        break;
      case FieldDescriptor::CPPTYPE_BOOL:
        out->SetBool(&to, target, in->GetBool(from, field));
        break;
      case FieldDescriptor::CPPTYPE_ENUM:
        out->SetEnumValue(&to, target, in->GetEnumValue(from, field));
        break;
      default: break;
    }
  }
}

// The one message that is set among the attributes of a command or an event.
const FieldDescriptor* attributes_field(const Message& message) {
  const auto* oneof = message.GetDescriptor()->FindOneofByName("attributes");
  return message.GetReflection()->GetOneofFieldDescriptor(message, oneof);
}

// "…ScheduleActivityTask…" → EVENT_TYPE_ACTIVITY_TASK_SCHEDULED →
// activity_task_scheduled_event_attributes.
Message& mutable_attributes(HistoryEvent& event) {
  std::string name = enums::EventType_Name(event.event_type()).substr(sizeof("EVENT_TYPE_") - 1);
  std::ranges::transform(name, name.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const auto* field = event.GetDescriptor()->FindFieldByName(name + "_event_attributes");
  return *event.GetReflection()->MutableMessage(&event, field);
}

std::optional<HistoryEvent> event_of_message(const std::string& id, const Messages& messages) {
  const auto found = std::ranges::find(messages, id, [](const auto& m) { return m.id(); });
  if (found == messages.end()) return std::nullopt;
  HistoryEvent event;
  temporal::api::update::v1::Acceptance acceptance;
  temporal::api::update::v1::Response response;
  if (found->body().UnpackTo(&acceptance)) {
    event.set_event_type(enums::EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED);
    auto& accepted = *event.mutable_workflow_execution_update_accepted_event_attributes();
    accepted.set_protocol_instance_id(found->protocol_instance_id());
    copy_same_fields(acceptance, accepted);
  } else if (found->body().UnpackTo(&response)) {
    event.set_event_type(enums::EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED);
    copy_same_fields(response,
                     *event.mutable_workflow_execution_update_completed_event_attributes());
  } else {
    return std::nullopt;
  }
  return event;
}

}  // namespace

std::optional<HistoryEvent> event_for(const Command& command, const Messages& messages) {
  if (command.has_protocol_message_command_attributes())
    return event_of_message(command.protocol_message_command_attributes().message_id(), messages);
  HistoryEvent event;
  event.set_event_type(engine::event_of(command.command_type()));
  if (event.event_type() == enums::EVENT_TYPE_UNSPECIFIED) return std::nullopt;
  Message& attributes = mutable_attributes(event);
  if (const FieldDescriptor* field = attributes_field(command))
    copy_same_fields(command.GetReflection()->GetMessage(command, field), attributes);
  if (command.has_user_metadata()) *event.mutable_user_metadata() = command.user_metadata();
  if (command.has_signal_external_workflow_execution_command_attributes()) {
    *event.mutable_signal_external_workflow_execution_initiated_event_attributes()
         ->mutable_workflow_execution() =
        command.signal_external_workflow_execution_command_attributes().execution();
  } else if (command.has_request_cancel_external_workflow_execution_command_attributes()) {
    const auto& cancel = command.request_cancel_external_workflow_execution_command_attributes();
    auto& target =
        *event.mutable_request_cancel_external_workflow_execution_initiated_event_attributes()
             ->mutable_workflow_execution();
    target.set_workflow_id(cancel.workflow_id());
    target.set_run_id(cancel.run_id());
  }
  return event;
}

}  // namespace tempora::testing
