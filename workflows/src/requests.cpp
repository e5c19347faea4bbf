#include "requests.hpp"

#include "failures.hpp"
#include "order.hpp"

#include <addrflow/domain/ipv6.hpp>
#include <algorithm>

namespace addrflow::workflows {
namespace {

using domain::ErrorCode;
using Checked = std::expected<void, domain::FieldError>;

constexpr std::size_t kLongestText = 256;
constexpr std::size_t kLongestUsername = 253;
constexpr std::size_t kLongestPlan = 64;

void require(const Checked& checked) {
  if (!checked) throw refusal(checked.error());
}

// Who is meant. `customer_id` is the seeds' name for the subscriber (C9).
template <class Request>
void adopt_subject(Request& request) {
  require(domain::check_id("tenant_id", request.tenant_id()));
  if (request.subscriber_id().empty() && !request.customer_id().empty()) {
    require(domain::check_id("customer_id", request.customer_id()));
    request.set_subscriber_id(request.customer_id());
  }
  require(domain::check_id("subscriber_id", request.subscriber_id()));
  if (!request.customer_id().empty() && request.customer_id() != request.subscriber_id()) {
    throw refusal(ErrorCode::kInvalidArgument, "customer_id and subscriber_id differ: give one");
  }
  request.clear_customer_id();
  if (request.service().empty()) request.set_service(std::string{domain::kDefaultService});
  require(domain::check_id("service", request.service()));
  if (!request.key().empty()) require(domain::check_key("key", request.key()));
  require(check_text("actor", request.actor(), kLongestText));
  require(check_text("username", request.username(), kLongestUsername));
  require(adopt_address("nas_ip", *request.mutable_nas_ip()));
}

template <class Request>
void check_lift(Request& request) {
  adopt_subject(request);
  require(check_text("reason", request.reason(), kLongestText));
  require(check_families(request.families()));
}

}  // namespace

void check_shape(v1::ProvisionRequest& request) {
  adopt_subject(request);
  const bool ipv4 = !request.has_enable_ipv4() || request.enable_ipv4();
  if (!ipv4 && !request.enable_ipv6()) {
    throw refusal(ErrorCode::kInvalidArgument,
                  "enable_ipv4 and enable_ipv6 are false: there is nothing to provision");
  }
  require(check_text("reason", request.reason(), kLongestText));
  require(check_text("ipv4_pool_id", request.ipv4_pool_id(), kLongestText));
  require(check_address("requested_address", request.requested_address()));
  require(check_text("ipv6_pool_id", request.ipv6_pool_id(), kLongestText));
  require(domain::check_pd_size("ipv6_pd_size", request.ipv6_pd_size()));
  require(adopt_prefix("requested_prefix", *request.mutable_requested_prefix(),
                       request.ipv6_pd_size()));
  if (!ipv4 && !request.requested_address().empty())
    throw refusal(ErrorCode::kInvalidArgument, "requested_address is given without enable_ipv4");
  if (!request.enable_ipv6() && !request.requested_prefix().empty())
    throw refusal(ErrorCode::kInvalidArgument, "requested_prefix is given without enable_ipv6");
  if (!request.optional_family().empty()) {
    require(check_family("optional_family", request.optional_family()));
    if (!ipv4 || !request.enable_ipv6())
      throw refusal(ErrorCode::kInvalidArgument, "optional_family needs another family beside it");
  }
  require(check_restriction("restrict_when", request.restrict_when()));
  require(check_text("plan", request.plan(), kLongestPlan));
  require(check_policy("on_coa_failure", request.on_coa_failure()));
  require(check_policy("on_netbox_failure", request.on_netbox_failure()));
}

void check_shape(v1::DeprovisionRequest& request) { check_lift(request); }
void check_shape(v1::SubscriberRequest& request) { check_lift(request); }

const v1::BindingView* binding_of(const v1::ServiceView& view, std::string_view family) {
  for (const v1::BindingView& binding : view.bindings()) {
    if (binding.family() == family) return &binding;
  }
  return nullptr;
}

bool has(const std::vector<std::string>& families, std::string_view family) {
  return std::ranges::find(families, family) != families.end();
}

void changed_meanwhile(std::string_view family, const std::string& state,
                       std::string_view expected) {
  throw refusal(ErrorCode::kConflict, std::string{family} + " is " + state + ", not " +
                                          std::string{expected} +
                                          ": somebody else changed it meanwhile");
}

Chosen chosen_families(const v1::ProvisionRequest& request, const v1::ServiceView& view) {
  Chosen chosen;
  std::vector<std::string>& families = chosen.families;
  if (!request.has_enable_ipv4() || request.enable_ipv4())
    families.emplace_back(domain::kFamilyIpv4);
  if (request.enable_ipv6()) families.emplace_back(domain::kFamilyIpv6Pd);
  if (families.size() < 2) return chosen;
  const auto active = [&view](const std::string& family) {
    const v1::BindingView* binding = binding_of(view, family);
    return binding != nullptr && binding->state() == "active";
  };
  if (active(families[0]) == active(families[1])) return chosen;
  chosen.there = active(families[0]) ? families[0] : families[1];
  const v1::BindingView& binding = *binding_of(view, chosen.there);
  const bool ipv4 = chosen.there == domain::kFamilyIpv4;
  const std::string& asked = ipv4 ? request.requested_address() : request.requested_prefix();
  chosen.held = ipv4 ? binding.address() : binding.prefix();
  if (!asked.empty() && asked != chosen.held) {
    throw refusal(ErrorCode::kConflict,
                  std::string{ipv4 ? "requested_address" : "requested_prefix"} +
                      " differs from the one held: " + chosen.held);
  }
  std::erase(families, chosen.there);
  return chosen;
}

bool leaves_netbox_alone(const v1::ProvisionRequest& request) {
  return request.has_update_netbox() && !request.update_netbox();
}

v1::AllocateRequest allocate_request(const v1::ProvisionRequest& request,
                                     const std::vector<std::string>& families,
                                     const std::string& key) {
  v1::AllocateRequest allocate;
  *allocate.mutable_service() = service_of(request);
  for (const std::string& family : families) allocate.add_families(family);
  // The pool of a family that is there already, too: the ledger refuses where that is another one.
  if (!request.has_enable_ipv4() || request.enable_ipv4())
    allocate.set_ipv4_pool_id(request.ipv4_pool_id());
  if (request.enable_ipv6()) allocate.set_ipv6_pool_id(request.ipv6_pool_id());
  if (has(families, domain::kFamilyIpv4))
    allocate.set_requested_address(request.requested_address());
  if (has(families, domain::kFamilyIpv6Pd)) {
    allocate.set_requested_prefix(request.requested_prefix());
    allocate.set_ipv6_pd_size(request.ipv6_pd_size());
  }
  if (families.size() > 1) allocate.set_optional_family(request.optional_family());
  allocate.set_restrict_when(request.restrict_when());
  allocate.set_username(request.username());
  allocate.set_nas_ip(request.nas_ip());
  allocate.set_plan(request.plan());
  allocate.set_on_netbox_failure(request.on_netbox_failure());
  // Only what differs from the default: the request of a run that began before there was the field
  // stays the same one.
  if (leaves_netbox_alone(request)) allocate.set_update_netbox(false);
  allocate.set_created_by(key);
  return allocate;
}

v1::ActivateRequest activate_request(const v1::ProvisionRequest& request,
                                     const std::vector<std::string>& families) {
  v1::ActivateRequest activate;
  *activate.mutable_service() = service_of(request);
  for (const std::string& family : families) activate.add_families(family);
  activate.set_username(request.username());
  activate.set_nas_ip(request.nas_ip());
  activate.set_send_coa(request.send_coa());
  if (request.has_update_netbox()) activate.set_update_netbox(request.update_netbox());
  activate.set_on_coa_failure(request.on_coa_failure());
  activate.set_on_netbox_failure(request.on_netbox_failure());
  return activate;
}

v1::RevokeRequest revoke_request(const v1::DeprovisionRequest& request) {
  v1::RevokeRequest revoke;
  *revoke.mutable_service() = service_of(request);
  *revoke.mutable_families() = request.families();
  revoke.set_username(request.username());
  revoke.set_nas_ip(request.nas_ip());
  if (request.has_send_disconnect()) revoke.set_send_disconnect(request.send_disconnect());
  if (request.has_release_to_pool()) revoke.set_release_to_pool(request.release_to_pool());
  if (request.has_update_netbox()) revoke.set_update_netbox(request.update_netbox());
  return revoke;
}

}  // namespace addrflow::workflows
