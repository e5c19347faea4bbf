#include <fmt/format.h>
#include <google/protobuf/util/json_util.h>

#include <cctype>
#include <nlohmann/json.hpp>
#include <tempora/replayer.hpp>

#include "converter/json_depth.hpp"
#include "engine/run.hpp"

namespace tempora {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;
using nlohmann::json;

// Histories exported before about 2023 spell enums as "TimerStarted" where proto3 JSON says
// "EVENT_TYPE_TIMER_STARTED".
std::string full_enum_name(const EnumDescriptor& type, const std::string& name) {
  if (type.FindValueByName(name) != nullptr) return name;
  std::string_view prefix = type.value(0)->name();
  constexpr std::string_view kUnspecified = "UNSPECIFIED";
  if (!prefix.ends_with(kUnspecified)) return name;
  prefix.remove_suffix(kUnspecified.size());
  std::string full{prefix};
  for (std::size_t i = 0; i < name.size(); ++i) {
    const bool upper = std::isupper(static_cast<unsigned char>(name[i])) != 0;
    if (upper && i > 0) full += '_';
    full += static_cast<char>(std::toupper(static_cast<unsigned char>(name[i])));
  }
  return type.FindValueByName(full) != nullptr ? full : name;
}

const FieldDescriptor* find_field(const Descriptor& type, const std::string& key) {
  if (const FieldDescriptor* field = type.FindFieldByCamelcaseName(key)) return field;
  return type.FindFieldByName(key);
}

void normalise(json& value, const Descriptor& type);

void normalise_value(json& value, const FieldDescriptor& field) {
  if (field.type() == FieldDescriptor::TYPE_ENUM && value.is_string()) {
    value = full_enum_name(*field.enum_type(), value.get<std::string>());
  } else if (field.type() == FieldDescriptor::TYPE_MESSAGE) {
    normalise(value, *field.message_type());
  }
}

void normalise(json& value, const Descriptor& type) {
  if (!value.is_object() || type.full_name().starts_with("google.protobuf.")) return;
  for (auto& [key, member] : value.items()) {
    const FieldDescriptor* field = find_field(type, key);
    if (field == nullptr) continue;  // ignored by the parser as well
    if (field->is_map()) {
      const FieldDescriptor& element = *field->message_type()->FindFieldByName("value");
      if (!member.is_object()) continue;
      for (auto& entry : member.items()) normalise_value(entry.value(), element);
    } else if (field->is_repeated()) {
      if (!member.is_array()) continue;
      for (json& element : member) normalise_value(element, *field);
    } else {
      normalise_value(member, *field);
    }
  }
}

}  // namespace

std::expected<temporal::api::history::v1::History, std::string> parse_history(
    std::string_view text) {
  if (nests_too_deeply(text)) {
    return std::unexpected(fmt::format("the history nests deeper than {} levels", kDeepestJson));
  }
  json value = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (value.is_discarded()) return std::unexpected("the history is not JSON");
  if (value.is_array()) value = json{{"events", std::move(value)}};
  if (!value.is_object() || !value.contains("events"))
    return std::unexpected("the history has no \"events\"");
  temporal::api::history::v1::History history;
  normalise(value, *history.GetDescriptor());
  google::protobuf::util::JsonParseOptions options;
  options.ignore_unknown_fields = true;
  const auto status = google::protobuf::util::JsonStringToMessage(value.dump(), &history, options);
  if (!status.ok())
    return std::unexpected(fmt::format("the history cannot be read: {}", status.ToString()));
  if (history.events().empty()) return std::unexpected("the history has no events");
  return history;
}

std::expected<void, ReplayError> Replayer::replay(
    const temporal::api::history::v1::History& history) const {
  ReplayError error;
  if (history.events().empty() || history.events(0).event_id() != 1) {
    error.message = "the history does not begin with event 1";
    return std::unexpected(std::move(error));
  }
  temporal::api::workflowservice::v1::PollWorkflowTaskQueueResponse task;
  *task.mutable_history() = history;
  if (!options_.codecs.empty()) decode_payloads(*task.mutable_history(), options_.codecs);
  const auto& started = history.events(0).workflow_execution_started_event_attributes();
  task.mutable_workflow_execution()->set_workflow_id(started.workflow_id());
  task.mutable_workflow_execution()->set_run_id(started.original_execution_run_id());
  engine::Run run{registry_, engine::RunOptions{.namespace_ = options_.namespace_,
                                                .interceptors = options_.interceptors}};
  const engine::TaskOutcome outcome = run.replay(task);
  if (outcome.kind == engine::TaskOutcome::Kind::kCompleted) return {};
  if (run.nondeterminism()) return std::unexpected(*run.nondeterminism());
  error.workflow_type = started.workflow_type().name();
  error.message = outcome.kind == engine::TaskOutcome::Kind::kNeedFullHistory
                      ? "the history has gaps: event ids do not follow each other"
                      : outcome.failure.message();
  return std::unexpected(std::move(error));
}

std::expected<void, ReplayError> Replayer::replay_json(std::string_view text) const {
  auto history = parse_history(text);
  if (history) return replay(*history);
  ReplayError error;
  error.message = history.error();
  return std::unexpected(std::move(error));
}

}  // namespace tempora
