// What a kind of NAS wants to hear for each operation, as data: which identifiers, which attributes
// with which values. A new BNG needs a file, no code (dialects/README.md has the form).
#pragma once

#include <addrflow/ports/network.hpp>
#include <addrflow/radius/packet.hpp>

#include <expected>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace addrflow::radius {

enum class ValueKind { kText, kInteger, kIpv4, kIpv6, kOctets };

struct AttributeType {
  std::uint32_t vendor = 0;
  std::uint8_t type = 0;
  ValueKind kind = ValueKind::kText;
};

// The attributes that the code knows by name; a dialect may name more.
const AttributeType* find_attribute(std::string_view name);

// `text` as the attribute's octets, or what is wrong with it.
std::expected<std::string, std::string> encode_value(const AttributeType& type,
                                                     std::string_view text);

using Variables = std::map<std::string, std::string>;

struct Dialect {
  struct Item {
    std::string name;
    AttributeType type;
    std::string value;  // with ${variables}
  };

  std::string name;
  std::string title;
  bool tested = false;  // on a device, not only against this project's peers
  std::string address_change = "disconnect";
  bool coa_disconnects = false;     // a change of condition needs a new login
  bool disconnect_allowed = false;  // when the NAS refuses to change a session
  bool demand_message_authenticator = false;
  std::vector<Item> identify_coa;  // an item whose variable is empty is left out…
  std::vector<Item> identify_disconnect;
  std::vector<std::string> required;  // …but these names must be there
  std::vector<Item> full;             // CoA: an item whose variable is empty is an error
  std::vector<Item> restricted;
};

// Throws std::invalid_argument naming `origin` and the field.
Dialect parse_dialect(std::string_view toml, std::string_view origin);

class Dialects {
 public:
  // The built-in ones; a `*.toml` in `directory` (empty: none) adds one or replaces its namesake.
  // Throws std::invalid_argument for a file that cannot be used.
  explicit Dialects(const std::string& directory = {});

  const Dialect* find(const std::string& name) const;
  std::vector<std::string> names() const;

 private:
  std::map<std::string, Dialect> dialects_;
};

// The variables that identify a session to its NAS.
Variables variables_of(const ports::Session& session, const ports::NasRecord& nas);

// The attributes of `items` with their values filled in. `optional`: those without a value are left
// out; else a variable without a value is an error.
std::expected<std::vector<Attribute>, std::string> fill(const std::vector<Dialect::Item>& items,
                                                        const Variables& variables, bool optional);

}  // namespace addrflow::radius
