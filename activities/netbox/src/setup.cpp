// What NetBox must know before addrflow can mark its objects there.
#include <algorithm>
#include <utility>

#include "addrflow/netbox/client.hpp"
#include "json_parts.hpp"

namespace addrflow::netbox {
namespace {

using nlohmann::json;

constexpr const char* kFields = "/api/extras/custom-fields/";
constexpr const char* kChoiceSets = "/api/extras/custom-field-choice-sets/";
constexpr const char* kTags = "/api/extras/tags/";
constexpr const char* kChoiceSet = "lifecycle-state";

const json& choices() {
  // Said outright: nlohmann takes a list of pairs of strings for an object.
  static const json kChoices = json::array({
      json::array({"pending", "Pending"}),
      json::array({"allocated", "Allocated"}),
      json::array({"active", "Active"}),
      json::array({"suspended", "Suspended"}),
      json::array({"revoking", "Revoking"}),
      json::array({"revoked", "Revoked"}),
      json::array({"failed", "Failed"}),
  });
  return kChoices;
}

json text_field(const char* name, const char* label, bool unique) {
  return {{"object_types", json::array({"ipam.ipaddress", "ipam.prefix"})},
          {"type", "text"},
          {"name", name},
          {"label", label},
          // A look-up by a part of the value would find other people's objects.
          {"filter_logic", "exact"},
          {"unique", unique},
          {"required", false},
          {"ui_editable", unique ? "no" : "yes"}};
}

}  // namespace

Result<json> Client::named(const std::string& path, const std::string& name,
                           Clock::time_point deadline) {
  const auto answer = call("GET", path + "?name=" + escaped(name), nullptr, "", deadline);
  if (!answer) return std::unexpected(answer.error());
  if (answer->body.is_object() && answer->body.contains("results")) {
    for (const auto& item : answer->body["results"]) {
      if (item.is_object() && text_or_empty(item, "name") == name) return item;
    }
  }
  return json{};
}

Result<std::int64_t> Client::setup_choices(std::vector<std::string>& report,
                                           Clock::time_point deadline) {
  auto found = named(kChoiceSets, kChoiceSet, deadline);
  if (!found) return std::unexpected(found.error());
  if (found->is_null()) {
    const json body{{"name", kChoiceSet}, {"extra_choices", choices()}};
    const auto made = call("POST", kChoiceSets, &body, "", deadline);
    if (!made) return std::unexpected(made.error());
    report.push_back(fmt::format("choice set {}: made", kChoiceSet));
    return made->body.value("id", std::int64_t{0});
  }
  const std::int64_t id = found->value("id", std::int64_t{0});
  json wanted = found->value("extra_choices", json::array());
  const std::size_t before = wanted.size();
  for (const auto& choice : choices()) {
    const bool known = std::ranges::any_of(
        wanted, [&](const json& item) { return item.is_array() && item.at(0) == choice.at(0); });
    if (!known) wanted.push_back(choice);
  }
  if (wanted.size() != before) {
    const json body{{"extra_choices", wanted}};
    const auto path = fmt::format("{}{}/", kChoiceSets, id);
    const auto changed = call("PATCH", path, &body, "", deadline);
    if (!changed) return std::unexpected(changed.error());
  }
  report.push_back(fmt::format("choice set {}: {}", kChoiceSet,
                               wanted.size() == before ? "exists" : "choices added"));
  return id;
}

Result<void> Client::setup_field(const json& field, std::vector<std::string>& report,
                                 Clock::time_point deadline) {
  const std::string name = field.at("name").get<std::string>();
  const auto found = named(kFields, name, deadline);
  if (!found) return std::unexpected(found.error());
  if (found->is_null()) {
    const auto made = call("POST", kFields, &field, "", deadline);
    if (!made) return std::unexpected(made.error());
    report.push_back(fmt::format("custom field {}: made", name));
    return {};
  }
  const auto value_of = [&](const char* part) {
    const auto part_of = found->find(part);
    return part_of != found->end() && part_of->is_object() ? text_or_empty(*part_of, "value") : "";
  };
  const bool unique = found->value("unique", false) || !field.value("unique", false);
  if (!unique || value_of("type") != text_or_empty(field, "type") ||
      value_of("filter_logic") != "exact") {
    return std::unexpected(
        Error{.kind = ErrorKind::kInvalid,
              .message = fmt::format(
                  "NetBox's custom field {} exists, but must be of type {}, filtered exactly{}",
                  name, field.at("type").get<std::string>(),
                  field.value("unique", false) ? ", and unique" : "")});
  }
  json types = found->value("object_types", json::array());
  const std::size_t before = types.size();
  for (const json& type : field.at("object_types")) {
    if (std::ranges::find(types, type) == types.end()) types.push_back(type);
  }
  if (types.size() != before) {
    const json body{{"object_types", types}};
    const auto path = fmt::format("{}{}/", kFields, found->value("id", std::int64_t{0}));
    const auto changed = call("PATCH", path, &body, "", deadline);
    if (!changed) return std::unexpected(changed.error());
  }
  report.push_back(fmt::format("custom field {}: {}", name,
                               types.size() == before ? "exists" : "object types added"));
  return {};
}

Result<void> Client::setup_tag(std::vector<std::string>& report, Clock::time_point deadline) {
  const auto found = call("GET", fmt::format("{}?slug={}", kTags, kTagSlug), nullptr, "", deadline);
  if (!found) return std::unexpected(found.error());
  if (found->body.is_object() && found->body.contains("results")) {
    for (const auto& item : found->body["results"]) {
      if (!item.is_object() || text_or_empty(item, "slug") != kTagSlug) continue;
      report.push_back(fmt::format("tag {}: exists", kTagSlug));
      return {};
    }
  }
  const json body{{"name", kTagSlug},
                  {"slug", kTagSlug},
                  {"description", "kept by addrflow: do not change by hand"}};
  const auto made = call("POST", kTags, &body, "", deadline);
  if (!made) return std::unexpected(made.error());
  report.push_back(fmt::format("tag {}: made", kTagSlug));
  return {};
}

Result<std::vector<std::string>> Client::setup(Clock::time_point deadline) {
  std::vector<std::string> report;
  const auto choice_set = setup_choices(report, deadline);
  if (!choice_set) return std::unexpected(choice_set.error());
  const json fields[] = {text_field("idempotency_key", "Idempotency key", true),
                         text_field("subscriber_id", "Subscriber", false),
                         {{"object_types", json::array({"ipam.ipaddress", "ipam.prefix"})},
                          {"type", "select"},
                          {"name", "lifecycle_state"},
                          {"label", "Lifecycle state"},
                          {"choice_set", *choice_set},
                          {"filter_logic", "exact"}}};
  for (const json& field : fields) {
    if (const auto done = setup_field(field, report, deadline); !done) {
      return std::unexpected(done.error());
    }
  }
  if (const auto done = setup_tag(report, deadline); !done) return std::unexpected(done.error());
  return report;
}

}  // namespace addrflow::netbox
