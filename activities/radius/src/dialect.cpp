#include "addrflow/radius/dialect.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>

#include <toml++/toml.h>
#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <span>
#include <stdexcept>

namespace addrflow::radius {

// Written by the build from dialects/*.toml.
struct EmbeddedDialect {
  std::string_view file;
  std::string_view text;
};
std::span<const EmbeddedDialect> embedded_dialects();

namespace {

struct Known {
  std::string_view name;
  AttributeType type;
};

constexpr std::uint32_t kCisco = 9;
constexpr std::uint32_t kMikrotik = 14988;
constexpr std::uint32_t kJuniper = 4874;
constexpr std::uint32_t kHuawei = 2011;
constexpr std::uint32_t kNokia = 6527;

constexpr std::array kKnown{
    Known{"User-Name", {0, 1, ValueKind::kText}},
    Known{"NAS-IP-Address", {0, 4, ValueKind::kIpv4}},
    Known{"NAS-Port", {0, 5, ValueKind::kInteger}},
    Known{"Framed-IP-Address", {0, 8, ValueKind::kIpv4}},
    Known{"Filter-Id", {0, 11, ValueKind::kText}},
    Known{"Class", {0, 25, ValueKind::kOctets}},
    Known{"Session-Timeout", {0, 27, ValueKind::kInteger}},
    Known{"Idle-Timeout", {0, 28, ValueKind::kInteger}},
    Known{"Calling-Station-Id", {0, 31, ValueKind::kText}},
    Known{"NAS-Identifier", {0, 32, ValueKind::kText}},
    Known{"Acct-Session-Id", {0, 44, ValueKind::kText}},
    Known{"Connect-Info", {0, 77, ValueKind::kText}},
    Known{"NAS-Port-Id", {0, 87, ValueKind::kText}},
    Known{"Framed-Pool", {0, 88, ValueKind::kText}},
    Known{"Chargeable-User-Identity", {0, 89, ValueKind::kOctets}},
    Known{"NAS-IPv6-Address", {0, 95, ValueKind::kIpv6}},
    Known{"Cisco-AVPair", {kCisco, 1, ValueKind::kText}},
    Known{"Cisco-Account-Info", {kCisco, 250, ValueKind::kText}},
    Known{"Mikrotik-Rate-Limit", {kMikrotik, 8, ValueKind::kText}},
    Known{"ERX-Service-Activate", {kJuniper, 65, ValueKind::kText}},
    Known{"ERX-Service-Deactivate", {kJuniper, 66, ValueKind::kText}},
    Known{"HW-Qos-Profile-Name", {kHuawei, 31, ValueKind::kText}},
    Known{"Alc-Subsc-Prof-Str", {kNokia, 12, ValueKind::kText}},
    Known{"Alc-SLA-Prof-Str", {kNokia, 13, ValueKind::kText}},
};

// The value with its variables filled in; absent when one of them has no value.
std::optional<std::string> expand(std::string_view text, const Variables& variables,
                                  std::string& missing) {
  std::string result;
  while (true) {
    const auto open = text.find("${");
    result += text.substr(0, open);
    if (open == std::string_view::npos) return result;
    const auto close = text.find('}', open);
    if (close == std::string_view::npos) {
      missing = std::string{text.substr(open)};
      return std::nullopt;
    }
    missing = std::string{text.substr(open + 2, close - open - 2)};
    const auto found = variables.find(missing);
    if (found == variables.end() || found->second.empty()) return std::nullopt;
    result += found->second;
    text.remove_prefix(close + 1);
  }
}

class Reader {
 public:
  Reader(std::string_view text, std::string_view origin) : origin_(origin) {
    try {
      table_ = toml::parse(text, origin);
    } catch (const toml::parse_error& error) {
      refuse("", std::string{error.description()});
    }
    if (const auto* own = table_["attributes"].as_table()) {
      for (const auto& [name, node] : *own) define(std::string{name.str()}, node);
    }
  }

  std::string text(std::string_view path, std::optional<std::string> otherwise = std::nullopt) {
    const auto node = table_.at_path(path);
    if (!node && otherwise) return *otherwise;
    const auto value = node.value<std::string>();
    if (!value) refuse(path, "must be a text");
    return *value;
  }
  bool flag(std::string_view path) {
    const auto node = table_.at_path(path);
    if (node && !node.is_boolean()) refuse(path, "must be true or false");
    return node.value_or(false);
  }
  std::vector<std::string> texts(std::string_view path) {
    std::vector<std::string> result;
    for (const auto& node : list(path)) {
      const auto value = node.template value<std::string>();
      if (!value) refuse(path, "must hold texts");
      result.push_back(*value);
    }
    return result;
  }
  // [["Attribute", "value"], …]
  std::vector<Dialect::Item> items(std::string_view path) {
    std::vector<Dialect::Item> result;
    for (const auto& node : list(path)) {
      const auto* pair = node.as_array();
      const auto name = pair == nullptr ? std::nullopt : (*pair)[0].value<std::string>();
      if (!name || pair->size() != 2) refuse(path, "must hold pairs of attribute and value");
      const auto value = (*pair)[1].value<std::string>();
      if (!value) refuse(path, fmt::format("the value of {} must be a text", *name));
      result.push_back({*name, type(path, *name), *value});
    }
    return result;
  }

 private:
  [[noreturn]] void refuse(std::string_view path, const std::string& why) const {
    throw std::invalid_argument(fmt::format("dialect {}: {} {}", origin_, path, why));
  }
  const toml::array& list(std::string_view path) {
    static const toml::array kNone;
    const auto node = table_.at_path(path);
    if (!node) return kNone;
    if (!node.is_array()) refuse(path, "must be a list");
    return *node.as_array();
  }
  AttributeType type(std::string_view path, const std::string& name) const {
    if (const auto own = own_.find(name); own != own_.end()) return own->second;
    const AttributeType* known = find_attribute(name);
    if (known == nullptr) refuse(path, fmt::format("names {}, which nobody defines", name));
    return *known;
  }
  void define(const std::string& name, const toml::node& node) {
    const auto* table = node.as_table();
    if (table == nullptr) refuse("attributes." + name, "must be a table");
    const auto vendor = (*table)["vendor"].value_or<std::int64_t>(0);
    const auto number = (*table)["type"].value_or<std::int64_t>(0);
    const auto kind = (*table)["kind"].value_or<std::string>("text");
    static const std::map<std::string, ValueKind> kKinds{{"text", ValueKind::kText},
                                                         {"integer", ValueKind::kInteger},
                                                         {"ipv4", ValueKind::kIpv4},
                                                         {"ipv6", ValueKind::kIpv6},
                                                         {"octets", ValueKind::kOctets}};
    const auto known = kKinds.find(kind);
    if (vendor < 0 || vendor >= 1 << 24 || number < 1 || number > 255 || known == kKinds.end()) {
      refuse("attributes." + name, "wants vendor, type (1 to 255) and kind");
    }
    own_[name] = {static_cast<std::uint32_t>(vendor), static_cast<std::uint8_t>(number),
                  known->second};
  }

  std::string origin_;
  toml::table table_;
  std::map<std::string, AttributeType> own_;
};

}  // namespace

const AttributeType* find_attribute(std::string_view name) {
  const auto found = std::ranges::find(kKnown, name, &Known::name);
  return found == kKnown.end() ? nullptr : &found->type;
}

std::expected<std::string, std::string> encode_value(const AttributeType& type,
                                                     std::string_view text) {
  const std::string value{text};
  switch (type.kind) {
    case ValueKind::kInteger: {
      std::uint32_t number = 0;
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
      if (error != std::errc{} || end != text.data() + text.size()) {
        return std::unexpected(fmt::format("'{}' is no number", text));
      }
      return integer_value(number);
    }
    case ValueKind::kIpv4: {
      in_addr address{};
      if (inet_pton(AF_INET, value.c_str(), &address) != 1) {
        return std::unexpected(fmt::format("'{}' is no IPv4 address", text));
      }
      return std::string{reinterpret_cast<const char*>(&address), sizeof address};
    }
    case ValueKind::kIpv6: {
      in6_addr address{};
      if (inet_pton(AF_INET6, value.c_str(), &address) != 1) {
        return std::unexpected(fmt::format("'{}' is no IPv6 address", text));
      }
      return std::string{reinterpret_cast<const char*>(&address), sizeof address};
    }
    case ValueKind::kText:
    case ValueKind::kOctets: break;
  }
  if (value.size() > (type.vendor == 0 ? kMaxValueSize : kMaxVendorValueSize)) {
    return std::unexpected(fmt::format("a value of {} octets is too long", value.size()));
  }
  return value;
}

Dialect parse_dialect(std::string_view toml, std::string_view origin) {
  Reader reader{toml, origin};
  Dialect dialect;
  dialect.name = reader.text("name");
  dialect.title = reader.text("title");
  dialect.tested = reader.flag("tested");
  dialect.address_change = reader.text("address_change", "disconnect");
  dialect.coa_disconnects = reader.flag("coa_disconnects");
  dialect.disconnect_allowed = reader.flag("disconnect_allowed");
  dialect.demand_message_authenticator = reader.flag("demand_message_authenticator");
  dialect.identify_coa = reader.items("identify.coa");
  dialect.identify_disconnect = reader.items("identify.disconnect");
  dialect.required = reader.texts("identify.required");
  dialect.full = reader.items("coa.full");
  dialect.restricted = reader.items("coa.restricted");
  const auto nothing = [&](std::string_view what) {
    throw std::invalid_argument(fmt::format("dialect {}: {} is empty", origin, what));
  };
  if (dialect.identify_disconnect.empty()) nothing("identify.disconnect");
  if (!dialect.coa_disconnects) {
    if (dialect.identify_coa.empty()) nothing("identify.coa");
    if (dialect.full.empty()) nothing("coa.full");
    if (dialect.restricted.empty()) nothing("coa.restricted");
  }
  return dialect;
}

Dialects::Dialects(const std::string& directory) {
  for (const auto& [file, text] : embedded_dialects()) {
    Dialect dialect = parse_dialect(text, file);
    dialects_[dialect.name] = dialect;
  }
  if (directory.empty()) return;
  for (const auto& entry : std::filesystem::directory_iterator{directory}) {
    if (entry.path().extension() != ".toml") continue;
    std::ifstream file{entry.path()};
    const std::string text{std::istreambuf_iterator<char>{file}, {}};
    Dialect dialect = parse_dialect(text, entry.path().string());
    dialects_[dialect.name] = dialect;
  }
}

const Dialect* Dialects::find(const std::string& name) const {
  const auto found = dialects_.find(name);
  return found == dialects_.end() ? nullptr : &found->second;
}

std::vector<std::string> Dialects::names() const {
  std::vector<std::string> result;
  for (const auto& [name, dialect] : dialects_) result.push_back(name);
  return result;
}

Variables variables_of(const ports::Session& session, const ports::NasRecord& nas) {
  const bool v6 = nas.nas_ip.find(':') != std::string::npos;
  return {{"username", session.username},
          {"session_id", session.acct_session_id},
          {"framed_ip", session.framed_ip},
          {"nas_port_id", session.nas_port_id},
          {"calling_station_id", session.calling_station_id},
          {"nas_ip", v6 ? "" : nas.nas_ip},
          {"nas_ipv6", v6 ? nas.nas_ip : ""},
          {"nas_identifier", nas.nas_identifier}};
}

std::expected<std::vector<Attribute>, std::string> fill(const std::vector<Dialect::Item>& items,
                                                        const Variables& variables, bool optional) {
  std::vector<Attribute> result;
  for (const Dialect::Item& item : items) {
    std::string missing;
    const auto text = expand(item.value, variables, missing);
    if (!text && optional) continue;
    if (!text) return std::unexpected(fmt::format("{} needs ${{{}}}", item.name, missing));
    auto value = encode_value(item.type, *text);
    if (!value) return std::unexpected(fmt::format("{}: {}", item.name, value.error()));
    result.push_back({item.type.vendor, item.type.type, std::move(*value)});
  }
  return result;
}

}  // namespace addrflow::radius
