// What a caller wants of a service, whatever the message it came in: checked in shape, defaults
// filled in, and written down so that the ledger can tell a repeat from another request.
#pragma once

#include <addrflow/v1/activities.pb.h>
#include <addrflow/v1/lifecycle.pb.h>
#include <addrflow/domain/ids.hpp>
#include <addrflow/domain/operation.hpp>
#include <expected>
#include <optional>
#include <string>
#include <string_view>

namespace addrflow::workflows {

struct Order {
  domain::Operation operation{};
  v1::ServiceRef service;
  v1::Caller caller;
  std::vector<std::string> families;  // empty: what the line has, as the ledger's claim says
  std::string username;
  std::string nas_ip;
  std::string plan;
  // Of one family each.
  std::string pool_id;
  std::string requested_address;
  std::string ipv6_pool_id;
  std::string requested_prefix;
  int pd_size = 0;
  std::string optional_family;
  std::string restrict_when;
  std::string created_by;
  std::string only_created_by;
  std::optional<std::int64_t> generation;
  bool send_radius = false;  // the CoA or the Disconnect
  bool release_to_pool = true;
  bool commit = true;  // false: the answer is the plan, nothing is done
  bool fail_on_coa = false;
  bool fail_on_netbox = false;
  std::string adopted_state;
  std::string request_json;  // the request as it was understood, its key included
  std::string request_hash;  // hex SHA-256 of it without the key
};

// Shape only: what can be said without looking anywhere. `own` is the service whose workflow this
// is; a request that names none means it.
template <class Request>
std::expected<Order, domain::FieldError> to_order(Request request, const domain::ServiceId& own);

// The order that was written down as `request_json`.
std::expected<Order, domain::FieldError> order_from_json(domain::Operation operation,
                                                         std::string_view request_json,
                                                         const domain::ServiceId& own);

// Fills in the key of a request that came without one.
void set_key(Order& order, const std::string& key);

v1::ClaimRequest claim_request(const Order& order);

// The canonical text of a message and its hash: what is empty or unset is left out, so that a field
// that a later version adds does not make an old request another one.
std::string canonical_json(const google::protobuf::Message& message, std::string_view left_out);
std::string sha256_hex(std::string_view text);

std::expected<void, domain::FieldError> check_address(std::string_view field,
                                                      std::string_view value);
// An IPv4 or an IPv6 address, which is brought into its one written form.
std::expected<void, domain::FieldError> adopt_address(std::string_view field, std::string& value);
// Brings the prefix into its one written form.
std::expected<void, domain::FieldError> adopt_prefix(std::string_view field, std::string& value,
                                                     std::int64_t pd_size);
std::expected<void, domain::FieldError> check_family(std::string_view field,
                                                     std::string_view value);
std::expected<void, domain::FieldError> check_restriction(std::string_view field,
                                                          std::string_view value);
// "ipv4" and "ipv6_pd", each at most once. `families` is a repeated field.
template <class Families>
std::expected<void, domain::FieldError> check_families(const Families& families) {
  for (int i = 0; i < families.size(); ++i) {
    const std::string field = "families[" + std::to_string(i) + "]";
    if (auto known = check_family(field, families.Get(i)); !known) return known;
    for (int j = 0; j < i; ++j) {
      if (families.Get(j) == families.Get(i))
        return std::unexpected(domain::FieldError{field, field + " names a family twice"});
    }
  }
  return {};
}
std::expected<void, domain::FieldError> check_text(std::string_view field, std::string_view value,
                                                   std::size_t longest);
std::expected<void, domain::FieldError> check_policy(std::string_view field,
                                                     std::string_view value);

}  // namespace addrflow::workflows
