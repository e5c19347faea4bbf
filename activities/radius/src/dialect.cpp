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
#include <functional>
#include <initializer_list>
#include <iterator>
#include <numeric>
#include <optional>
#include <span>
#include <stdexcept>
#include <system_error>
#include <utility>

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
constexpr std::uint32_t kZte = 3902;

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
    Known{"Framed-IPv6-Prefix", {0, 97, ValueKind::kIpv6Prefix}},
    Known{"Delegated-IPv6-Prefix", {0, 123, ValueKind::kIpv6Prefix}},
    Known{"Service-Type", {0, 6, ValueKind::kInteger}},
    Known{"State", {0, 24, ValueKind::kOctets}},
    Known{"Cisco-AVPair", {kCisco, 1, ValueKind::kText}},
    Known{"Cisco-Account-Info", {kCisco, 250, ValueKind::kText}},
    Known{"Mikrotik-Rate-Limit", {kMikrotik, 8, ValueKind::kText}},
    Known{"ERX-Virtual-Router-Name", {kJuniper, 1, ValueKind::kText}},
    Known{"ERX-Service-Activate", {kJuniper, 65, ValueKind::kTaggedText}},
    Known{"ERX-Service-Deactivate", {kJuniper, 66, ValueKind::kText}},
    Known{"Mikrotik-Group", {kMikrotik, 3, ValueKind::kText}},
    Known{"HW-Command-Mode", {kHuawei, 34, ValueKind::kText}},
    Known{"HW-Qos-Profile-Name", {kHuawei, 31, ValueKind::kText}},
    Known{"Alc-Subsc-Prof-Str", {kNokia, 12, ValueKind::kText}},
    Known{"Alc-SLA-Prof-Str", {kNokia, 13, ValueKind::kText}},
    Known{"ZTE-QoS-Profile-Down", {kZte, 82, ValueKind::kText}},
    Known{"ZTE-QoS-Profile-Up", {kZte, 94, ValueKind::kText}},
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

// Every field that a dialect file may have; another one is a slip of the pen.
constexpr std::array kFields{std::string_view{"name"},
                             std::string_view{"title"},
                             std::string_view{"tested"},
                             std::string_view{"judged"},
                             std::string_view{"port"},
                             std::string_view{"address_change"},
                             std::string_view{"coa_disconnects"},
                             std::string_view{"disconnect_allowed"},
                             std::string_view{"demand_message_authenticator"},
                             std::string_view{"identify.coa"},
                             std::string_view{"identify.disconnect"},
                             std::string_view{"identify.required"},
                             std::string_view{"coa.full"},
                             std::string_view{"coa.restricted"},
                             std::string_view{"coa.reauthenticate"},
                             std::string_view{"coa.renumber"},
                             std::string_view{"identify"},
                             std::string_view{"coa"},
                             std::string_view{"nak"},
                             std::string_view{"attributes"}};

class Reader {
 public:
  Reader(std::string_view text, std::string_view origin) : origin_(origin) {
    try {
      table_ = toml::parse(text, origin);
    } catch (const toml::parse_error& error) {
      refuse_at(error.source().begin.line, std::string{error.description()});
    }
    for (const auto& [name, node] : table_) know(std::string{name.str()}, node);
    for (const char* section : {"identify", "coa"}) {
      const auto* table = table_[section].as_table();
      if (table == nullptr) continue;
      for (const auto& [name, node] : *table) {
        know(fmt::format("{}.{}", section, name.str()), node);
      }
    }
    if (const auto* own = table_["attributes"].as_table()) {
      for (const auto& [name, node] : *own) define(std::string{name.str()}, node);
    }
  }

  std::string text(std::string_view path, std::optional<std::string> otherwise = std::nullopt) {
    const auto node = table_.at_path(path);
    if (!node && otherwise) return *otherwise;
    if (!node) refuse_at(1, fmt::format("{} is missing", path));
    const auto value = node.value<std::string>();
    if (!value) refuse(path, *node.node(), "must be a text");
    return *value;
  }
  std::string one_of(std::string_view path, std::initializer_list<std::string_view> choices) {
    std::string value = text(path, std::string{*choices.begin()});
    if (std::ranges::find(choices, value) == choices.end()) {
      refuse(path, *table_.at_path(path).node(),
             fmt::format("is '{}', which is none of {}", value, fmt::join(choices, ", ")));
    }
    return value;
  }
  std::uint16_t port() {
    const auto node = table_.at_path("port");
    if (!node) return 3799;
    const auto value = node.value<std::int64_t>();
    if (!value || *value < 1 || *value > 65535) refuse("port", *node.node(), "must be 1 to 65535");
    return static_cast<std::uint16_t>(*value);
  }
  bool flag(std::string_view path) {
    const auto node = table_.at_path(path);
    if (node && !node.is_boolean()) refuse(path, *node.node(), "must be true or false");
    return node.value_or(false);
  }
  std::vector<std::string> texts(std::string_view path) {
    std::vector<std::string> result;
    for (const auto& node : list(path)) {
      const auto value = node.template value<std::string>();
      if (!value) refuse(path, node, "must hold texts");
      result.push_back(*value);
    }
    return result;
  }
  // [["Attribute", "value"], …]
  std::vector<Dialect::Item> items(std::string_view path) {
    std::vector<Dialect::Item> result;
    for (const auto& node : list(path)) {
      const auto* pair = node.as_array();
      if (pair == nullptr || pair->size() != 2) {
        refuse(path, node, "must hold pairs of attribute and value");
      }
      const auto name = (*pair)[0].value<std::string>();
      if (!name) refuse(path, node, "must hold pairs of attribute and value");
      const auto value = (*pair)[1].value<std::string>();
      if (!value) refuse(path, node, fmt::format("the value of {} must be a text", *name));
      result.push_back({*name, type(path, node, *name), *value});
      check_value(path, node, result.back());
    }
    return result;
  }
  // "407" = "session-not-found"; "none" is a NAK without Error-Cause.
  std::map<std::uint32_t, NakMeaning> naks() {
    static const std::map<std::string, NakMeaning, std::less<>> kMeanings{
        {"session-not-found", NakMeaning::kSessionNotFound},
        {"look-again", NakMeaning::kLookAgain},
        {"disconnect", NakMeaning::kDisconnect},
        {"retry", NakMeaning::kRetry},
        {"final", NakMeaning::kFinal}};
    std::map<std::uint32_t, NakMeaning> result;
    const auto* table = table_["nak"].as_table();
    if (table == nullptr) return result;
    for (const auto& [name, node] : *table) {
      const std::string_view key = name.str();
      const std::string path = fmt::format("nak.{}", key);
      std::uint32_t cause = 0;
      const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), cause);
      const bool number = error == std::errc{} && end == key.data() + key.size() && cause > 0;
      if (!number && key != "none") refuse(path, node, "is neither an Error-Cause nor none");
      const auto meaning = kMeanings.find(node.value_or<std::string>(""));
      if (meaning == kMeanings.end()) {
        refuse(path, node, "must be session-not-found, look-again, disconnect, retry or final");
      }
      result[number ? cause : 0] = meaning->second;
    }
    return result;
  }
  [[noreturn]] void refuse_field(std::string_view path, const std::string& why) const {
    const auto node = table_.at_path(path);
    if (node) refuse(path, *node.node(), why);
    refuse_at(1, fmt::format("{} {}", path, why));
  }

 private:
  [[noreturn]] void refuse_at(std::size_t line, const std::string& what) const {
    throw std::invalid_argument(fmt::format("dialect {}:{}: {}", origin_, line, what));
  }
  [[noreturn]] void refuse(std::string_view path, const toml::node& node,
                           const std::string& why) const {
    refuse_at(node.source().begin.line, fmt::format("{} {}", path, why));
  }
  void know(const std::string& path, const toml::node& node) const {
    if (std::ranges::find(kFields, path) == kFields.end()) {
      refuse_at(node.source().begin.line, fmt::format("unknown field '{}'", path));
    }
  }
  const toml::array& list(std::string_view path) {
    static const toml::array kNone;
    const auto node = table_.at_path(path);
    if (!node) return kNone;
    if (!node.is_array()) refuse(path, *node.node(), "must be a list");
    return *node.as_array();
  }
  AttributeType type(std::string_view path, const toml::node& node, const std::string& name) const {
    if (const auto own = own_.find(name); own != own_.end()) return own->second;
    const AttributeType* known = find_attribute(name);
    if (known == nullptr) refuse(path, node, fmt::format("names {}, which nobody defines", name));
    return *known;
  }
  // A value without variables can be tried now; of one with them, the braces.
  void check_value(std::string_view path, const toml::node& node, const Dialect::Item& item) const {
    if (!item.value.contains("${")) {
      if (const auto value = encode_value(item.type, item.value); !value) {
        refuse(path, node, fmt::format("{}: {}", item.name, value.error()));
      }
      return;
    }
    for (auto at = item.value.find("${"); at != std::string::npos;
         at = item.value.find("${", at + 2)) {
      const auto close = item.value.find('}', at);
      if (close == std::string::npos || close == at + 2) {
        refuse(path, node, fmt::format("{}: a variable is ${{name}}", item.name));
      }
    }
  }
  void define(const std::string& name, const toml::node& node) {
    const std::string path = "attributes." + name;
    const auto* table = node.as_table();
    if (table == nullptr) refuse(path, node, "must be a table");
    const auto vendor = (*table)["vendor"].value_or<std::int64_t>(0);
    const auto number = (*table)["type"].value_or<std::int64_t>(0);
    const auto kind = (*table)["kind"].value_or<std::string>("text");
    static const std::map<std::string, ValueKind> kKinds{
        {"text", ValueKind::kText},       {"tagged", ValueKind::kTaggedText},
        {"integer", ValueKind::kInteger}, {"ipv4", ValueKind::kIpv4},
        {"ipv6", ValueKind::kIpv6},       {"ipv6prefix", ValueKind::kIpv6Prefix},
        {"octets", ValueKind::kOctets}};
    const auto known = kKinds.find(kind);
    if (vendor < 0 || vendor >= 1 << 24 || number < 1 || number > 255 || known == kKinds.end()) {
      refuse(path, node,
             "wants vendor, type (1 to 255) and kind (text, tagged, integer, ipv4, ipv6,"
             " ipv6prefix or octets)");
    }
    own_[name] = {static_cast<std::uint32_t>(vendor), static_cast<std::uint8_t>(number),
                  known->second};
  }

  std::string origin_;
  toml::table table_;
  std::map<std::string, AttributeType> own_;
};

// RFC 3162 2.3: a reserved octet, the length, and as many octets as the prefix needs; what lies
// past the length is zero.
std::expected<std::string, std::string> prefix_value(const std::string& text) {
  const auto slash = text.find('/');
  in6_addr address{};
  unsigned length = 129;
  if (slash != std::string::npos) {
    const char* const end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data() + slash + 1, end, length);
    if (error != std::errc{} || rest != end) length = 129;
  }
  if (length > 128 || inet_pton(AF_INET6, text.substr(0, slash).c_str(), &address) != 1) {
    return std::unexpected(fmt::format("'{}' is no IPv6 prefix", text));
  }
  std::string value{'\0', static_cast<char>(length)};
  for (unsigned bit = 0; bit < length; bit += 8) {
    const unsigned left = length - bit;
    const unsigned mask = left >= 8 ? 0xffU : 0xffU << (8 - left) & 0xffU;
    value += static_cast<char>(address.s6_addr[bit / 8] & mask);
  }
  return value;
}

}  // namespace

const AttributeType* find_attribute(std::string_view name) {
  const auto found = std::ranges::find(kKnown, name, &Known::name);
  return found == kKnown.end() ? nullptr : &found->type;
}

std::expected<std::string, std::string> encode_value(const AttributeType& type,
                                                     std::string_view text) {
  std::string value{text};
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
    case ValueKind::kIpv6Prefix: return prefix_value(value);
    case ValueKind::kTaggedText: value.insert(0, 1, '\x01'); break;
    case ValueKind::kText:
    case ValueKind::kOctets: break;
  }
  if (value.size() > (type.vendor == 0 ? kMaxValueSize : kMaxVendorValueSize)) {
    return std::unexpected(fmt::format("a value of {} octets is too long", value.size()));
  }
  return value;
}

namespace {

// Of the kinds that `encode_value` makes; what cannot be read is shown in hexadecimal.
std::string shown_value(ValueKind kind, const std::string& value) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  switch (kind) {
    case ValueKind::kText: return value;
    case ValueKind::kTaggedText: return value.substr(std::min<std::size_t>(1, value.size()));
    case ValueKind::kInteger:
      if (value.size() != 4) break;
      return std::to_string(std::accumulate(value.begin(), value.end(), std::uint32_t{0},
                                            [](std::uint32_t sum, char octet) {
                                              return sum << 8 | static_cast<unsigned char>(octet);
                                            }));
    case ValueKind::kIpv4:
      if (value.size() != sizeof(in_addr)) break;
      return inet_ntop(AF_INET, value.data(), text.data(), text.size());
    case ValueKind::kIpv6:
      if (value.size() != sizeof(in6_addr)) break;
      return inet_ntop(AF_INET6, value.data(), text.data(), text.size());
    case ValueKind::kIpv6Prefix: {
      if (value.size() < 2 || value.size() > 2 + sizeof(in6_addr)) break;
      in6_addr address{};
      std::copy(value.begin() + 2, value.end(), reinterpret_cast<char*>(&address));
      return fmt::format("{}/{}", inet_ntop(AF_INET6, &address, text.data(), text.size()),
                         static_cast<unsigned char>(value[1]));
    }
    case ValueKind::kOctets: break;
  }
  std::string hex = "0x";
  for (const char octet : value) hex += fmt::format("{:02x}", static_cast<unsigned char>(octet));
  return hex;
}

}  // namespace

std::string describe(const Dialect& dialect, const Attribute& attribute) {
  const auto is = [&](const AttributeType& type) {
    return type.vendor == attribute.vendor && type.type == attribute.type;
  };
  for (const auto* items : {&dialect.identify_coa, &dialect.identify_disconnect, &dialect.full,
                            &dialect.restricted, &dialect.reauthenticate, &dialect.renumber}) {
    for (const Dialect::Item& item : *items) {
      if (is(item.type))
        return fmt::format("{} = {}", item.name, shown_value(item.type.kind, attribute.value));
    }
  }
  return fmt::format("{}.{} = {}", attribute.vendor, attribute.type,
                     shown_value(ValueKind::kOctets, attribute.value));
}

Dialect parse_dialect(std::string_view toml, std::string_view origin) {
  Reader reader{toml, origin};
  Dialect dialect;
  dialect.name = reader.text("name");
  dialect.title = reader.text("title");
  dialect.tested = reader.flag("tested");
  dialect.judged = reader.flag("judged");
  dialect.port = reader.port();
  dialect.address_change = reader.one_of("address_change", {"disconnect", "reauthenticate", "coa"});
  dialect.coa_disconnects = reader.flag("coa_disconnects");
  dialect.disconnect_allowed = reader.flag("disconnect_allowed");
  dialect.demand_message_authenticator = reader.flag("demand_message_authenticator");
  dialect.identify_coa = reader.items("identify.coa");
  dialect.identify_disconnect = reader.items("identify.disconnect");
  dialect.required = reader.texts("identify.required");
  dialect.full = reader.items("coa.full");
  dialect.restricted = reader.items("coa.restricted");
  dialect.reauthenticate = reader.items("coa.reauthenticate");
  dialect.renumber = reader.items("coa.renumber");
  dialect.naks = reader.naks();
  const auto nothing = [&](std::string_view what) { reader.refuse_field(what, "is empty"); };
  if (dialect.identify_disconnect.empty()) nothing("identify.disconnect");
  if (!dialect.coa_disconnects) {
    if (dialect.identify_coa.empty()) nothing("identify.coa");
    if (dialect.full.empty()) nothing("coa.full");
    if (dialect.restricted.empty()) nothing("coa.restricted");
  }
  if (dialect.address_change == "reauthenticate" && dialect.reauthenticate.empty()) {
    nothing("coa.reauthenticate");
  }
  if (dialect.address_change == "coa" && dialect.renumber.empty()) nothing("coa.renumber");
  for (const std::string& name : dialect.required) {
    const auto named = [&](const Dialect::Item& item) { return item.name == name; };
    if (std::ranges::none_of(dialect.identify_disconnect, named)) {
      reader.refuse_field("identify.required",
                          fmt::format("asks for {}, which identify.disconnect never sends", name));
    }
  }
  return dialect;
}

Dialects::Dialects(const std::string& directory) {
  const auto add = [this](std::string_view text, const std::string& origin, bool built_in) {
    Dialect dialect = parse_dialect(text, origin);
    texts_[dialect.name] = {std::string{text}, built_in ? "built in" : origin};
    dialects_[dialect.name] = std::move(dialect);
  };
  for (const auto& [file, text] : embedded_dialects()) add(text, std::string{file}, true);
  if (directory.empty()) return;
  std::error_code failed;
  for (const auto& entry : std::filesystem::directory_iterator{directory, failed}) {
    if (entry.path().extension() != ".toml") continue;
    std::ifstream file{entry.path()};
    add(std::string{std::istreambuf_iterator<char>{file}, {}}, entry.path().string(), false);
  }
  if (failed) {
    throw std::invalid_argument(fmt::format("dialects in {}: {}", directory, failed.message()));
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

PlanVariables read_plans(const std::string& file) {
  const auto refuse = [&](std::size_t line, const std::string& what) {
    throw std::invalid_argument(fmt::format("plans {}:{}: {}", file, line, what));
  };
  toml::table table;
  try {
    table = toml::parse_file(file);
  } catch (const toml::parse_error& error) {
    refuse(error.source().begin.line, std::string{error.description()});
  }
  const auto read = [&](const std::string& path, const toml::node& node) {
    const auto* names = node.as_table();
    if (names == nullptr) refuse(node.source().begin.line, path + " must be a table");
    Variables variables;
    for (const auto& [name, value] : *names) {
      const auto text = value.value<std::string>();
      if (!text) {
        refuse(value.source().begin.line, fmt::format("{}.{} must be a text", path, name.str()));
      }
      variables[std::string{name.str()}] = *text;
    }
    return variables;
  };
  PlanVariables result;
  for (const auto& [name, node] : table) {
    if (name == "variables") {
      result.all = read("variables", node);
    } else if (name == "plans" && node.is_table()) {
      for (const auto& [plan, of_plan] : *node.as_table()) {
        result.plans[std::string{plan.str()}] = read(fmt::format("plans.{}", plan.str()), of_plan);
      }
    } else {
      refuse(node.source().begin.line, fmt::format("unknown field '{}'", name.str()));
    }
  }
  return result;
}

Variables variables_of(const ports::Session& session, const ports::NasRecord& nas) {
  const bool v6 = nas.nas_ip.find(':') != std::string::npos;
  return {{"username", session.username},
          {"session_id", session.acct_session_id},
          {"framed_ip", session.framed_ip},
          {"delegated_prefix", session.delegated_prefix},
          {"framed_prefix", session.framed_prefix},
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

std::expected<std::vector<Attribute>, std::string> fill_condition(
    const std::vector<Dialect::Item>& items, Variables variables,
    const std::vector<std::string>& former_plans) {
  std::vector<Attribute> result;
  for (const Dialect::Item& item : items) {
    const bool each = item.value.contains("${former_plan}");
    for (const std::string& plan : each ? former_plans : std::vector<std::string>{""}) {
      variables["former_plan"] = plan;
      auto filled = fill({item}, variables, false);
      if (!filled) return filled;
      std::ranges::move(*filled, std::back_inserter(result));
    }
  }
  return result;
}

}  // namespace addrflow::radius
