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

std::string PatchMachine::describe(enums::CommandType type) const {
  return fmt::format("{} patch \"{}\"", name_of(type), id_);
}

bool PatchMachine::matches(enums::CommandType, const HistoryEvent& event) const {
  return read_patch(event).id == id_;
}

}  // namespace tempora::engine
