// The composed requests: their shape, and the operations that they come to. Pure, so that a plan
// asks for the very operations that the workflows do.
#pragma once

#include "order.hpp"

#include <addrflow/v1/provision.pb.h>
#include <addrflow/domain/ids.hpp>
#include <addrflow/workflows/names.hpp>
#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace addrflow::workflows {

// Each brings a request into its one form (who is meant, which service) and throws a refusal that
// names the field.
void check_shape(v1::ProvisionRequest& request);
void check_shape(v1::DeprovisionRequest& request);
void check_shape(v1::SubscriberRequest& request);

template <class Request>
v1::ServiceRef service_of(const Request& request) {
  v1::ServiceRef service;
  service.set_tenant_id(request.tenant_id());
  service.set_subscriber_id(request.subscriber_id());
  service.set_service(request.service());
  return service;
}

const v1::BindingView* binding_of(const v1::ServiceView& view, std::string_view family);

bool has(const std::vector<std::string>& families, std::string_view family);

// The families of a request: those it names, else those that the line has or had. The latter do not
// change while the request is carried out, so its operations keep their keys when it is run again.
template <class Request>
std::vector<std::string> families_of(const Request& request, const v1::ServiceView& view) {
  std::vector<std::string> families(request.families().begin(), request.families().end());
  if (families.empty()) {
    for (const v1::BindingView& binding : view.bindings()) families.push_back(binding.family());
  }
  if (families.empty()) families.emplace_back(domain::kFamilyIpv4);
  std::ranges::sort(families);
  return families;
}

// One request is another's repeat if they want the same; who asks, and under which key, is not part
// of it.
template <class Request>
std::string hash_of(Request request, std::string_view kind) {
  request.clear_key();
  request.clear_actor();
  return sha256_hex(std::string{kind} + canonical_json(request, ""));
}

// The seeds' names of a step for either family.
struct StepNames {
  const char* ipv4;
  const char* ipv6;
  const char* of(std::string_view family) const {
    return family == domain::kFamilyIpv4 ? ipv4 : ipv6;
  }
};
inline constexpr StepNames kActivateSteps{kStepActivateIpv4, kStepActivateIpv6};
inline constexpr StepNames kSuspendSteps{kStepSuspendIpv4, kStepSuspendIpv6};
inline constexpr StepNames kReactivateSteps{kStepReactivateIpv4, kStepReactivateIpv6};
inline constexpr StepNames kRevokeSteps{kStepRevokeIpv4, kStepRevokeIpv6};

[[noreturn]] void changed_meanwhile(std::string_view family, const std::string& state,
                                    std::string_view expected);

// True unless the request asks for its plan alone; what it asks for is the same either way.
template <class Request>
bool take_commit(Request& request) {
  const bool commits = !request.has_commit() || request.commit();
  request.clear_commit();
  return commits;
}

// What a provision does to each family of the line as it is. A family that the line has already
// stays as it is while the other one is added to it.
struct Chosen {
  std::vector<std::string> families;
  std::string there;  // the one that stays; empty: none
  std::string held;   // its space
};
Chosen chosen_families(const v1::ProvisionRequest& request, const v1::ServiceView& view);

bool leaves_netbox_alone(const v1::ProvisionRequest& request);

// The operations, without their callers.
v1::AllocateRequest allocate_request(const v1::ProvisionRequest& request,
                                     const std::vector<std::string>& families,
                                     const std::string& key);
v1::ActivateRequest activate_request(const v1::ProvisionRequest& request,
                                     const std::vector<std::string>& families);
v1::RevokeRequest revoke_request(const v1::DeprovisionRequest& request);

// A suspend or a reactivate.
template <class Operation>
Operation coa_request(const v1::SubscriberRequest& request) {
  Operation wanted;
  *wanted.mutable_service() = service_of(request);
  *wanted.mutable_families() = request.families();
  wanted.set_username(request.username());
  wanted.set_nas_ip(request.nas_ip());
  if (request.has_send_coa()) wanted.set_send_coa(request.send_coa());
  return wanted;
}

}  // namespace addrflow::workflows
