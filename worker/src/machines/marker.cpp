#include "machines/marker.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "engine/run_state.hpp"

namespace tempora::engine {

PatchData read_patch(const HistoryEvent& event) {
  if (event.event_type() != enums::EVENT_TYPE_MARKER_RECORDED) return {};
  const auto& marker = event.marker_recorded_event_attributes();
  if (marker.marker_name() != kPatchMarker) return {};
  const auto data = marker.details().find(kPatchData);
  if (data == marker.details().end() || data->second.payloads_size() == 0) return {};
  const auto json = nlohmann::json::parse(data->second.payloads(0).data(), nullptr, false);
  if (!json.is_object()) return {};
  return {json.value("id", std::string{}), json.value("deprecated", false)};
}

void PatchMachine::record(bool deprecated, SourceLocation where) {
  auto command = run_.make_command(enums::COMMAND_TYPE_RECORD_MARKER);
  if (command) {
    auto& marker = *command->mutable_record_marker_command_attributes();
    marker.set_marker_name(kPatchMarker);
    nlohmann::ordered_json data;
    data["id"] = id_;
    data["deprecated"] = deprecated;
    *(*marker.mutable_details())[kPatchData].add_payloads() = detail::json_payload(data.dump());
  }
  run_.queue(enums::COMMAND_TYPE_RECORD_MARKER, this, std::move(command), where);
}

std::optional<SideEffectData> read_side_effect(const HistoryEvent& event) {
  if (event.event_type() != enums::EVENT_TYPE_MARKER_RECORDED) return std::nullopt;
  const auto& marker = event.marker_recorded_event_attributes();
  if (marker.marker_name() != kSideEffectMarker) return std::nullopt;
  const auto id = marker.details().find("side-effect-id");
  const auto data = marker.details().find("data");
  if (id == marker.details().end() || id->second.payloads_size() == 0) return std::nullopt;
  const auto number = nlohmann::json::parse(id->second.payloads(0).data(), nullptr, false);
  if (!number.is_number_unsigned()) return std::nullopt;
  SideEffectData read{.number = number.get<std::uint64_t>()};
  if (data != marker.details().end() && data->second.payloads_size() > 0)
    read.value = data->second.payloads(0);
  return read;
}

void SideEffectMachine::record(const Payload& value, SourceLocation where) {
  auto command = run_.make_command(enums::COMMAND_TYPE_RECORD_MARKER);
  if (command) {
    auto& marker = *command->mutable_record_marker_command_attributes();
    marker.set_marker_name(kSideEffectMarker);
    *(*marker.mutable_details())["side-effect-id"].add_payloads() =
        detail::json_payload(std::to_string(number_));
    *(*marker.mutable_details())["data"].add_payloads() = value;
  }
  run_.queue(enums::COMMAND_TYPE_RECORD_MARKER, this, std::move(command), where);
}

std::string SideEffectMachine::describe(enums::CommandType type) const {
  return fmt::format("{} side effect {}", name_of(type), number_);
}

bool SideEffectMachine::matches(enums::CommandType, const HistoryEvent& event) const {
  const auto read = read_side_effect(event);
  return read.has_value() && read->number == number_;
}

std::string PatchMachine::describe(enums::CommandType type) const {
  return fmt::format("{} patch \"{}\"", name_of(type), id_);
}

bool PatchMachine::matches(enums::CommandType, const HistoryEvent& event) const {
  return read_patch(event).id == id_;
}

}  // namespace tempora::engine
