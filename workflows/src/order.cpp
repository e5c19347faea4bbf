#include "order.hpp"

#include <openssl/evp.h>
#include <addrflow/domain/ipv4.hpp>
#include <addrflow/domain/ipv6.hpp>
#include <addrflow/domain/state.hpp>
#include <addrflow/v1/json.hpp>
#include <algorithm>
#include <array>

namespace addrflow::workflows {
namespace {

using domain::FieldError;
using domain::Operation;
using Checked = std::expected<void, FieldError>;

constexpr std::size_t kLongestText = 256;
constexpr std::size_t kLongestUsername = 253;  // a RADIUS attribute's value (RFC 2865 section 5)
constexpr std::size_t kLongestPlan = 64;

Checked refuse(std::string_view field, std::string_view why) {
  const std::string name{field};
  return std::unexpected(FieldError{name, name + " " + std::string{why}});
}

template <class... Results>
Checked first_refusal(const Results&... results) {
  Checked first;
  ((first ? void(first = results) : void()), ...);
  return first;
}

// A service that the request does not name, or names in part, is the workflow's own.
Checked adopt_service(v1::ServiceRef& service, const domain::ServiceId& own) {
  if (service.tenant_id().empty()) service.set_tenant_id(own.tenant);
  if (service.subscriber_id().empty()) service.set_subscriber_id(own.subscriber);
  if (service.service().empty()) service.set_service(own.service);
  if (service.tenant_id() != own.tenant)
    return refuse("service.tenant_id", "is not this workflow's: " + own.tenant);
  if (service.subscriber_id() != own.subscriber) {
    return refuse("service.subscriber_id", "is not this workflow's: " + own.subscriber);
  }
  if (service.service() != own.service)
    return refuse("service.service", "is not this workflow's: " + own.service);
  return {};
}

Checked check_caller(const v1::Caller& caller) {
  return first_refusal(
      caller.key().empty() ? Checked{} : domain::check_key("caller.key", caller.key()),
      check_text("caller.actor", caller.actor(), kLongestText),
      check_text("caller.reason", caller.reason(), kLongestText));
}

template <class Request>
Checked check_session(Request& request) {
  return first_refusal(check_text("username", request.username(), kLongestUsername),
                       adopt_address("nas_ip", *request.mutable_nas_ip()));
}

template <class Request>
void take_session(Order& order, const Request& request) {
  order.families.assign(request.families().begin(), request.families().end());
  order.username = request.username();
  order.nas_ip = request.nas_ip();
}

// What an allocate says of the space that it wants. A field of a family that is not asked for is a
// mistake: it would be dropped in silence.
template <class Request>
Checked check_space(Request& request) {
  const auto wants = [&](std::string_view family) {
    return std::ranges::find(request.families(), family) != request.families().end();
  };
  auto checked = check_text("ipv4_pool_id", request.ipv4_pool_id(), kLongestText);
  if (checked) checked = check_text("ipv6_pool_id", request.ipv6_pool_id(), kLongestText);
  if (checked) checked = check_address("requested_address", request.requested_address());
  if (checked) checked = domain::check_pd_size("ipv6_pd_size", request.ipv6_pd_size());
  if (checked) {
    checked = adopt_prefix("requested_prefix", *request.mutable_requested_prefix(),
                           request.ipv6_pd_size());
  }
  if (!checked) return checked;
  if (!wants(domain::kFamilyIpv4) && !request.requested_address().empty())
    return refuse("requested_address", "is given, but ipv4 is not among the families");
  if (!wants(domain::kFamilyIpv6Pd)) {
    if (!request.requested_prefix().empty())
      return refuse("requested_prefix", "is given, but ipv6_pd is not among the families");
    if (request.ipv6_pd_size() != 0)
      return refuse("ipv6_pd_size", "is given, but ipv6_pd is not among the families");
  }
  return {};
}

Checked check_optional(const v1::AllocateRequest& request) {
  const std::string& optional = request.optional_family();
  if (optional.empty()) return {};
  if (auto known = check_family("optional_family", optional); !known) return known;
  if (request.families_size() < 2)
    return refuse("optional_family", "needs another family beside it");
  return {};
}

template <class Request>
void take_space(Order& order, const Request& request) {
  order.pool_id = request.ipv4_pool_id();
  order.requested_address = request.requested_address();
  order.ipv6_pool_id = request.ipv6_pool_id();
  order.requested_prefix = request.requested_prefix();
  order.pd_size = request.ipv6_pd_size();
}

// Each `take` reads one kind of request into an order and says what is wrong with it.
Checked take(Order& order, v1::AllocateRequest& request) {
  order.operation = Operation::kAllocate;
  if (request.families().empty()) request.add_families(std::string{domain::kFamilyIpv4});
  auto checked = check_families(request.families());
  if (checked) checked = check_session(request);
  if (checked) checked = check_text("plan", request.plan(), kLongestPlan);
  if (checked) checked = check_space(request);
  if (checked) checked = check_optional(request);
  if (checked) checked = check_policy("on_netbox_failure", request.on_netbox_failure());
  if (checked) checked = check_text("created_by", request.created_by(), kLongestText);
  if (checked) checked = check_restriction("restrict_when", request.restrict_when());
  if (!checked) return checked;
  take_session(order, request);
  order.plan = request.plan();
  take_space(order, request);
  order.optional_family = request.optional_family();
  order.restrict_when = request.restrict_when();
  order.created_by = request.created_by();
  order.fail_on_netbox = request.on_netbox_failure() == "fail";
  return {};
}

Checked take(Order& order, v1::ActivateRequest& request) {
  order.operation = Operation::kActivate;
  auto checked = check_families(request.families());
  if (checked) checked = check_session(request);
  if (checked) checked = check_policy("on_coa_failure", request.on_coa_failure());
  if (checked) checked = check_policy("on_netbox_failure", request.on_netbox_failure());
  if (!checked) return checked;
  take_session(order, request);
  order.send_radius = request.send_coa();
  order.fail_on_coa = request.on_coa_failure() == "fail";
  order.fail_on_netbox = request.on_netbox_failure() == "fail";
  return {};
}

template <class Request>
Checked take_coa(Order& order, Request& request) {
  auto checked = check_families(request.families());
  if (checked) checked = check_session(request);
  if (!checked) return checked;
  take_session(order, request);
  order.send_radius = !request.has_send_coa() || request.send_coa();
  return {};
}

Checked take(Order& order, v1::SuspendRequest& request) {
  order.operation = Operation::kSuspend;
  return take_coa(order, request);
}

Checked take(Order& order, v1::ReactivateRequest& request) {
  order.operation = Operation::kReactivate;
  return take_coa(order, request);
}

Checked take(Order& order, v1::RevokeRequest& request) {
  order.operation = Operation::kRevoke;
  auto checked = check_families(request.families());
  if (checked) checked = check_session(request);
  if (checked && request.has_generation() && request.generation() < 1) {
    checked = refuse("generation", "must be 1 or more");
  }
  if (checked) checked = check_text("only_created_by", request.only_created_by(), kLongestText);
  if (!checked) return checked;
  take_session(order, request);
  order.send_radius = !request.has_send_disconnect() || request.send_disconnect();
  order.release_to_pool = !request.has_release_to_pool() || request.release_to_pool();
  if (request.has_generation()) order.generation = request.generation();
  order.only_created_by = request.only_created_by();
  return {};
}

Checked require_person(const v1::Caller& caller) {
  if (caller.actor().empty()) return refuse("caller.actor", "is required");
  if (caller.reason().empty()) return refuse("caller.reason", "is required");
  return {};
}

Checked take(Order& order, v1::RetryRequest& request) {
  order.operation = Operation::kRetry;
  order.send_radius = true;
  order.families.assign(request.families().begin(), request.families().end());
  return check_families(request.families());
}

Checked take(Order& order, v1::AdoptRequest& request) {
  order.operation = Operation::kAdopt;
  if (!domain::parse_state(request.state())) return refuse("state", "must be a state of a binding");
  order.adopted_state = request.state();
  order.families.assign(request.families().begin(), request.families().end());
  if (auto checked = check_families(request.families()); !checked) return checked;
  return require_person(request.caller());
}

Checked take(Order& order, v1::ForceReleaseRequest& request) {
  order.operation = Operation::kForceRelease;
  order.families.assign(request.families().begin(), request.families().end());
  if (auto checked = check_families(request.families()); !checked) return checked;
  return require_person(request.caller());
}

Checked take(Order& order, v1::MoveRequest& request) {
  order.operation = Operation::kMove;
  order.send_radius = !request.has_send_disconnect() || request.send_disconnect();
  if (request.nas_ip().empty()) return refuse("nas_ip", "is required");
  if (auto read = adopt_address("nas_ip", *request.mutable_nas_ip()); !read) return read;
  order.nas_ip = request.nas_ip();
  return {};
}

Checked take(Order& order, v1::RebindRequest& request) {
  order.operation = Operation::kRebind;
  order.username = request.username();
  order.send_radius = !request.has_send_disconnect() || request.send_disconnect();
  if (request.username().empty()) return refuse("username", "is required");
  return check_text("username", request.username(), kLongestUsername);
}

Checked take(Order& order, v1::ChangePlanRequest& request) {
  order.operation = Operation::kChangePlan;
  order.plan = request.plan();
  order.send_radius = !request.has_send_coa() || request.send_coa();
  order.fail_on_coa = request.on_coa_failure() == "fail";
  if (request.plan().empty()) return refuse("plan", "is required");
  if (auto checked = check_text("plan", request.plan(), kLongestPlan); !checked) return checked;
  return check_policy("on_coa_failure", request.on_coa_failure());
}

// Families that are not named are those that the line has, or the one that the fields are about.
Checked take(Order& order, v1::ReaddressRequest& request) {
  order.operation = Operation::kReaddress;
  auto checked = check_families(request.families());
  if (checked) checked = adopt_address("nas_ip", *request.mutable_nas_ip());
  if (checked) {
    v1::ReaddressRequest whole = request;
    if (whole.families().empty()) {
      whole.add_families(std::string{domain::kFamilyIpv4});
      whole.add_families(std::string{domain::kFamilyIpv6Pd});
    }
    checked = check_space(whole);
    request.set_requested_prefix(whole.requested_prefix());
  }
  if (!checked) return checked;
  order.families.assign(request.families().begin(), request.families().end());
  const bool ipv4 = !request.ipv4_pool_id().empty() || !request.requested_address().empty();
  const bool ipv6 = !request.ipv6_pool_id().empty() || !request.requested_prefix().empty() ||
                    request.ipv6_pd_size() != 0;
  if (order.families.empty() && ipv4 != ipv6)
    order.families.emplace_back(ipv4 ? domain::kFamilyIpv4 : domain::kFamilyIpv6Pd);
  order.nas_ip = request.nas_ip();
  take_space(order, request);
  order.send_radius = !request.has_send_coa() || request.send_coa();
  return {};
}

bool says_nothing(const nlohmann::json& value) {
  if (value.is_string()) return value.get_ref<const std::string&>().empty();
  if (value.is_number()) return value == 0;
  return value.is_null() || (value.is_structured() && value.empty());
}

// Drops what is not given: null, zero, empty texts, lists and objects. False stays: it is an
// answer.
void drop_empty(nlohmann::json& object) {
  for (auto item = object.begin(); item != object.end();) {
    if (item->is_object()) drop_empty(*item);
    item = says_nothing(*item) ? object.erase(item) : std::next(item);
  }
}

}  // namespace

template <class Request>
std::expected<Order, FieldError> to_order(Request request, const domain::ServiceId& own) {
  Order order;
  if (auto adopted = adopt_service(*request.mutable_service(), own); !adopted) {
    return std::unexpected(adopted.error());
  }
  request.mutable_caller();  // so that a request without one is the same as one with an empty one
  if (auto checked = check_caller(request.caller()); !checked)
    return std::unexpected(checked.error());
  // Whether it is done or only looked at, it is the same request.
  if constexpr (requires { request.has_commit(); }) {
    order.commit = !request.has_commit() || request.commit();
    request.clear_commit();
  }
  if (auto taken = take(order, request); !taken) return std::unexpected(taken.error());
  order.service = request.service();
  order.caller = request.caller();
  order.request_json = canonical_json(request, "");
  request.mutable_caller()->clear_key();
  order.request_hash =
      sha256_hex(std::string{domain::to_string(order.operation)} + canonical_json(request, ""));
  return order;
}

template std::expected<Order, FieldError> to_order(v1::AllocateRequest, const domain::ServiceId&);
template std::expected<Order, FieldError> to_order(v1::ActivateRequest, const domain::ServiceId&);
template std::expected<Order, FieldError> to_order(v1::SuspendRequest, const domain::ServiceId&);
template std::expected<Order, FieldError> to_order(v1::ReactivateRequest, const domain::ServiceId&);
template std::expected<Order, FieldError> to_order(v1::RevokeRequest, const domain::ServiceId&);
template std::expected<Order, FieldError> to_order(v1::RetryRequest, const domain::ServiceId&);
template std::expected<Order, FieldError> to_order(v1::AdoptRequest, const domain::ServiceId&);
template std::expected<Order, FieldError> to_order(v1::ForceReleaseRequest,
                                                   const domain::ServiceId&);
template std::expected<Order, FieldError> to_order(v1::MoveRequest, const domain::ServiceId&);
template std::expected<Order, FieldError> to_order(v1::RebindRequest, const domain::ServiceId&);
template std::expected<Order, FieldError> to_order(v1::ChangePlanRequest, const domain::ServiceId&);
template std::expected<Order, FieldError> to_order(v1::ReaddressRequest, const domain::ServiceId&);

namespace {

template <class Request>
std::expected<Order, FieldError> read_order(std::string_view text, const domain::ServiceId& own) {
  Request request;
  if (auto read = v1::from_json_text(text, request); !read) {
    return std::unexpected(FieldError{read.error().path, read.error().message});
  }
  return to_order(std::move(request), own);
}

}  // namespace

std::expected<Order, FieldError> order_from_json(Operation operation, std::string_view request_json,
                                                 const domain::ServiceId& own) {
  switch (operation) {
    case Operation::kAllocate: return read_order<v1::AllocateRequest>(request_json, own);
    case Operation::kActivate: return read_order<v1::ActivateRequest>(request_json, own);
    case Operation::kSuspend: return read_order<v1::SuspendRequest>(request_json, own);
    case Operation::kReactivate: return read_order<v1::ReactivateRequest>(request_json, own);
    case Operation::kRevoke: return read_order<v1::RevokeRequest>(request_json, own);
    case Operation::kRetry: return read_order<v1::RetryRequest>(request_json, own);
    case Operation::kAdopt: return read_order<v1::AdoptRequest>(request_json, own);
    case Operation::kForceRelease: return read_order<v1::ForceReleaseRequest>(request_json, own);
    case Operation::kMove: return read_order<v1::MoveRequest>(request_json, own);
    case Operation::kRebind: return read_order<v1::RebindRequest>(request_json, own);
    case Operation::kChangePlan: return read_order<v1::ChangePlanRequest>(request_json, own);
    case Operation::kReaddress: return read_order<v1::ReaddressRequest>(request_json, own);
  }
  return std::unexpected(FieldError{"operation", "operation is unknown"});
}

void set_key(Order& order, const std::string& key) {
  order.caller.set_key(key);
  nlohmann::json request = nlohmann::json::parse(order.request_json);
  request["caller"]["key"] = key;
  order.request_json = request.dump();
}

v1::ClaimRequest claim_request(const Order& order) {
  v1::ClaimRequest claim;
  *claim.mutable_service() = order.service;
  *claim.mutable_caller() = order.caller;
  claim.set_operation(std::string{domain::to_string(order.operation)});
  for (const std::string& family : order.families) claim.add_families(family);
  claim.set_request_hash(order.request_hash);
  claim.set_request_json(order.request_json);
  if (order.generation) claim.set_generation(*order.generation);
  claim.set_username(order.username);
  claim.set_nas_ip(order.nas_ip);
  claim.set_plan(order.plan);
  claim.set_requested_address(order.requested_address);
  claim.set_ipv4_pool_id(order.pool_id);
  claim.set_ipv6_pool_id(order.ipv6_pool_id);
  claim.set_requested_prefix(order.requested_prefix);
  claim.set_ipv6_pd_size(order.pd_size);
  claim.set_optional_family(order.optional_family);
  claim.set_restrict_when(order.restrict_when);
  claim.set_only_created_by(order.only_created_by);
  return claim;
}

std::string canonical_json(const google::protobuf::Message& message, std::string_view left_out) {
  nlohmann::json object = v1::to_json(message);
  if (!left_out.empty()) object.erase(std::string{left_out});
  drop_empty(object);
  return object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string sha256_hex(std::string_view text) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  if (EVP_Digest(text.data(), text.size(), digest.data(), &size, EVP_sha256(), nullptr) != 1) {
    throw std::runtime_error("SHA-256 is not available");
  }
  static constexpr std::string_view kHex = "0123456789abcdef";
  std::string hex;
  for (unsigned i = 0; i < size; ++i) {
    hex += kHex[digest[i] >> 4];
    hex += kHex[digest[i] & 15];
  }
  return hex;
}

Checked check_address(std::string_view field, std::string_view value) {
  if (value.empty() || domain::parse_ipv4(value)) return {};
  return refuse(field, "must be an IPv4 address");
}

Checked adopt_address(std::string_view field, std::string& value) {
  if (value.empty() || domain::parse_ipv4(value)) return {};
  const auto address = domain::parse_ipv6(value);
  if (!address) return refuse(field, "must be an IPv4 or an IPv6 address");
  value = domain::to_string(*address);
  return {};
}

Checked adopt_prefix(std::string_view field, std::string& value, std::int64_t pd_size) {
  if (value.empty()) return {};
  auto written = domain::check_delegated_prefix(field, value);
  if (!written) return std::unexpected(written.error());
  value = *std::move(written);
  if (pd_size != 0 && !value.ends_with("/" + std::to_string(pd_size)))
    return refuse(field, "has not the length that ipv6_pd_size names");
  return {};
}

Checked check_family(std::string_view field, std::string_view value) {
  if (value == domain::kFamilyIpv4 || value == domain::kFamilyIpv6Pd) return {};
  return refuse(field, "must be \"ipv4\" or \"ipv6_pd\"");
}

Checked check_restriction(std::string_view field, std::string_view value) {
  if (value.empty() || value == "any" || value == "all") return {};
  return refuse(field, "must be \"any\" or \"all\"");
}

Checked check_text(std::string_view field, std::string_view value, std::size_t longest) {
  if (value.size() > longest)
    return refuse(field, "is longer than " + std::to_string(longest) + " bytes");
  return domain::is_printable(value) ? Checked{}
                                     : refuse(field, "must not contain control characters");
}

Checked check_policy(std::string_view field, std::string_view value) {
  if (value.empty() || value == "pending" || value == "fail") return {};
  return refuse(field, "must be \"pending\" or \"fail\"");
}

}  // namespace addrflow::workflows
