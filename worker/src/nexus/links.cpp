#include "links.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "machines/machine.hpp"

namespace tempora::nexus {

namespace {

namespace enums = temporal::api::enums::v1;

constexpr std::string_view kScheme = "temporal://";
constexpr std::string_view kEventReference = "EventReference";
constexpr std::string_view kRequestIdReference = "RequestIdReference";

std::string escape(std::string_view text) {
  std::string escaped;
  for (const char each : text) {
    const auto byte = static_cast<unsigned char>(each);
    const bool plain = (byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z') ||
                       (byte >= 'a' && byte <= 'z') ||
                       std::string_view{"-._~"}.find(each) != std::string_view::npos;
    if (plain) {
      escaped += each;
    } else {
      escaped += fmt::format("%{:02X}", byte);
    }
  }
  return escaped;
}

std::string unescape(std::string_view text, bool query) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned byte = 0;
    if (text[i] == '%' && i + 2 < text.size() &&
        std::from_chars(text.data() + i + 1, text.data() + i + 3, byte, 16).ptr ==
            text.data() + i + 3) {
      plain += static_cast<char>(byte);
      i += 2;
    } else {
      plain += query && text[i] == '+' ? ' ' : text[i];
    }
  }
  return plain;
}

std::vector<std::string_view> split(std::string_view text, char by) {
  std::vector<std::string_view> parts;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find(by, at), text.size());
    parts.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

std::map<std::string, std::string> parameters(std::string_view query) {
  std::map<std::string, std::string> found;
  for (const std::string_view each : split(query, '&')) {
    const std::size_t equals = std::min(each.find('='), each.size());
    const std::string_view value = equals < each.size() ? each.substr(equals + 1) : "";
    found.insert_or_assign(unescape(each.substr(0, equals), true), unescape(value, true));
  }
  return found;
}

// "NexusOperationScheduled" or, in older links, "EVENT_TYPE_NEXUS_OPERATION_SCHEDULED".
enums::EventType event_type(const std::string& name) {
  enums::EventType type{};
  if (enums::EventType_Parse(name, &type)) return type;
  for (int i = enums::EventType_MIN; i <= enums::EventType_MAX; ++i) {
    if (enums::EventType_IsValid(i) && engine::name_of(static_cast<enums::EventType>(i)) == name)
      return static_cast<enums::EventType>(i);
  }
  return enums::EVENT_TYPE_UNSPECIFIED;
}

void read_reference(std::map<std::string, std::string> query, Link::WorkflowEvent& event) {
  const enums::EventType type = event_type(query["eventType"]);
  if (query["referenceType"] == kRequestIdReference) {
    event.mutable_request_id_ref()->set_request_id(query["requestID"]);
    event.mutable_request_id_ref()->set_event_type(type);
  } else {
    const std::string& id = query["eventID"];
    std::int64_t number = 0;
    std::from_chars(id.data(), id.data() + id.size(), number);
    event.mutable_event_ref()->set_event_id(number);
    event.mutable_event_ref()->set_event_type(type);
  }
}

}  // namespace

std::optional<Link> from_url(const temporal::api::nexus::v1::Link& link) {
  if (link.type() != Link::WorkflowEvent::descriptor()->full_name()) return std::nullopt;
  std::string_view url = link.url();
  if (!url.starts_with(kScheme)) return std::nullopt;
  url.remove_prefix(kScheme.size());
  const std::size_t query = std::min(url.find('?'), url.size());
  // /namespaces/{namespace}/workflows/{id}/{run}/history
  const auto path = split(url.substr(0, query), '/');
  if (path.size() != 7 || path[1] != "namespaces" || path[3] != "workflows" || path[6] != "history")
    return std::nullopt;
  Link found;
  auto& event = *found.mutable_workflow_event();
  event.set_namespace_(unescape(path[2], false));
  event.set_workflow_id(unescape(path[4], false));
  event.set_run_id(unescape(path[5], false));
  read_reference(parameters(query < url.size() ? url.substr(query + 1) : ""), event);
  return found;
}

temporal::api::nexus::v1::Link to_url(const Link::WorkflowEvent& event) {
  std::string query;
  if (event.has_request_id_ref()) {
    query = fmt::format("referenceType={}&requestID={}&eventType={}", kRequestIdReference,
                        escape(event.request_id_ref().request_id()),
                        engine::name_of(event.request_id_ref().event_type()));
  } else if (event.has_event_ref()) {
    if (event.event_ref().event_id() > 0)
      query = fmt::format("eventID={}&", event.event_ref().event_id());
    query += fmt::format("eventType={}&referenceType={}",
                         engine::name_of(event.event_ref().event_type()), kEventReference);
  }
  temporal::api::nexus::v1::Link link;
  link.set_type(std::string{Link::WorkflowEvent::descriptor()->full_name()});
  link.set_url(fmt::format("{}/namespaces/{}/workflows/{}/{}/history{}{}", kScheme,
                           escape(event.namespace_()), escape(event.workflow_id()),
                           escape(event.run_id()), query.empty() ? "" : "?", query));
  return link;
}

}  // namespace tempora::nexus
