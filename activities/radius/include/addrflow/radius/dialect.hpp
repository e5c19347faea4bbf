// What a kind of NAS wants to hear for each operation, as data: which identifiers, which attributes
// with which values. A new BNG needs a file, no code (dialects/README.md has the form).
#pragma once

#include <addrflow/ports/network.hpp>
#include <addrflow/radius/packet.hpp>

#include <cstdint>
#include <expected>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace addrflow::radius {

enum class ValueKind {
  kText,
  kTaggedText,  // a tag octet (1) before the text, RFC 2868 3
  kInteger,
  kIpv4,
  kIpv6,
  kIpv6Prefix,  // 0, length, and the octets that the prefix needs (RFC 3162 2.3)
  kOctets,
};

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
struct Dialect;

// "Framed-IP-Address = 203.0.113.7", with the name that the dialect or the dictionary has for it.
std::string describe(const Dialect& dialect, const Attribute& attribute);

// What a refusal by this kind of NAS means where it is not what RFC 5176 says.
enum class NakMeaning { kSessionNotFound, kLookAgain, kDisconnect, kRetry, kFinal };

struct Dialect {
  struct Item {
    std::string name;
    AttributeType type;
    std::string value;  // with ${variables}
  };

  std::string name;
  std::string title;
  bool tested = false;     // on a device
  bool judged = false;     // by a peer of this project that answers as the documents say
  std::uint16_t port = 0;  // where such devices listen as a rule
  // What a change of the address takes: "disconnect" (a new login), "reauthenticate" (the NAS asks
  // the AAA server again), "coa" (the session is given the new space).
  std::string address_change = "disconnect";
  std::vector<Item> reauthenticate;
  std::vector<Item> renumber;                // after the condition; an empty variable leaves it out
  std::map<std::uint32_t, NakMeaning> naks;  // by Error-Cause; 0: a NAK without one
  bool coa_disconnects = false;              // a change of condition needs a new login
  bool disconnect_allowed = false;           // when the NAS refuses to change a session
  bool demand_message_authenticator = false;
  std::vector<Item> identify_coa;  // an item whose variable is empty is left out…
  std::vector<Item> identify_disconnect;
  std::vector<std::string> required;  // …but these names must be there
  std::vector<Item> full;             // CoA: an item whose variable is empty is an error
  std::vector<Item> restricted;
};

// Throws std::invalid_argument naming `origin`, the line and the field. Unknown fields are refused.
Dialect parse_dialect(std::string_view toml, std::string_view origin);

class Dialects {
 public:
  // The built-in ones; a `*.toml` in `directory` (empty: none) adds one or replaces its namesake.
  // Throws std::invalid_argument for a file that cannot be used.
  explicit Dialects(const std::string& directory = {});

  const Dialect* find(const std::string& name) const;
  std::vector<std::string> names() const;
  // As it was read, and where from ("built in", or the file).
  const std::string& text(const std::string& name) const { return texts_.at(name).text; }
  const std::string& origin(const std::string& name) const { return texts_.at(name).origin; }

 private:
  struct Source {
    std::string text;
    std::string origin;
  };
  std::map<std::string, Source> texts_;
  std::map<std::string, Dialect> dialects_;
};

// The values of the dialects' variables: for all, and by plan.
struct PlanVariables {
  Variables all;
  std::map<std::string, Variables> plans;
};
// `[variables]` and `[plans.NAME]` of a TOML file, names and texts. Throws std::invalid_argument
// naming file, line and field.
PlanVariables read_plans(const std::string& file);

// The variables that identify a session to its NAS.
Variables variables_of(const ports::Session& session, const ports::NasRecord& nas);

// The attributes of `items` with their values filled in. `optional`: those without a value are left
// out; else a variable without a value is an error.
std::expected<std::vector<Attribute>, std::string> fill(const std::vector<Dialect::Item>& items,
                                                        const Variables& variables, bool optional);

// The whole condition. A pair with ${former_plan} is there once for each plan that the session may
// still have beside its own.
std::expected<std::vector<Attribute>, std::string> fill_condition(
    const std::vector<Dialect::Item>& items, Variables variables,
    const std::vector<std::string>& former_plans);

}  // namespace addrflow::radius
