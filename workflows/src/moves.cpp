#include "moves.hpp"

#include "failures.hpp"

#include <algorithm>
#include <set>

namespace addrflow::workflows {
namespace {

using domain::ErrorCode;
using domain::Operation;

// The holds of a family. A view from before families had holds of their own names them once.
std::vector<std::string> holds_of(const v1::ServiceView& view, std::string_view family) {
  const bool own = std::ranges::any_of(
      view.bindings(), [](const v1::BindingView& binding) { return binding.holds_size() > 0; });
  if (!own) return {view.holds().begin(), view.holds().end()};
  for (const v1::BindingView& binding : view.bindings()) {
    if (binding.family() == family) return {binding.holds().begin(), binding.holds().end()};
  }
  return {};
}

// The hold that a reactivate without a reason means: the only one there is.
std::string hold_to_lift(const Order& order, const v1::ServiceView& view) {
  if (!order.caller.reason().empty()) return order.caller.reason();
  std::set<std::string> reasons;
  for (const std::string& family : order.families) {
    for (std::string& hold : holds_of(view, family)) reasons.insert(std::move(hold));
  }
  if (reasons.size() > 1) {
    throw refusal(ErrorCode::kInvalidArgument,
                  "caller.reason must name the hold: there are several");
  }
  return reasons.empty() ? "operator" : *reasons.begin();
}

// What NetBox is told of a state that a person declares. What holds no space any more has nothing
// there.
std::string netbox_action_for(std::string_view state) {
  if (state == "allocated") return "set_reserved";
  if (state == "active") return "set_active";
  return state == "suspended" ? "suspend" : "";
}

Move reactivation(const Order& order, const v1::ClaimReply& claimed) {
  const std::string lifted = hold_to_lift(order, claimed.view());
  bool frees = false;  // one family at least
  std::string left;
  for (const std::string& family : order.families) {
    std::vector<std::string> holds = holds_of(claimed.view(), family);
    std::erase(holds, lifted);
    frees = frees || holds.empty();
    if (!holds.empty()) left = holds.front();
  }
  Move move{.request = move_of(order, claimed.claim(), frees ? "active" : "suspended"),
            .message = left.empty() ? "" : "still suspended: " + left};
  move.request.set_remove_hold(lifted);
  // While a hold is left nothing changes for the session.
  move.request.set_plan_aaa(frees);
  if (frees && order.send_radius) move.request.set_plan_radius("coa");
  if (frees) move.request.set_plan_netbox("set_active");
  return move;
}

v1::TransitionRequest revocation(const Order& order, const v1::Claim& claim) {
  v1::TransitionRequest move = move_of(order, claim, "revoking");
  move.set_plan_aaa(true);  // the next login is refused, before the session is cut
  if (order.send_radius) move.set_plan_radius("disconnect");
  move.set_plan_netbox("deprecate");
  move.set_keep_for_subscriber(!order.release_to_pool);
  return move;
}

// The line lives on as it is, with another name, NAS, plan or space.
void change(v1::TransitionRequest& request, const Order& order) {
  request.set_state("active");  // of none of them: each stays as it is
  request.set_keep_state(true);
  request.set_plan_aaa(true);  // the next login is right before the session is told
  // A NAS that the line leaves is not told of its other space.
  const bool cuts = order.operation == Operation::kMove || order.operation == Operation::kRebind ||
                    !order.nas_ip.empty();
  if (order.send_radius) request.set_plan_radius(cuts ? "disconnect" : "coa");
  request.set_spare_nas(order.operation == Operation::kMove);
  if (order.operation != Operation::kReaddress) return;
  request.set_renumber(true);
  request.set_plan_netbox("set_active");
}

}  // namespace

v1::TransitionRequest move_of(const Order& order, const v1::Claim& claim, std::string_view state) {
  v1::TransitionRequest move;
  *move.mutable_claim() = claim;
  for (const std::string& family : order.families) move.add_families(family);
  move.set_state(std::string{state});
  move.set_username(order.username);
  move.set_nas_ip(order.nas_ip);
  move.set_plan(order.plan);
  move.set_actor(order.caller.actor());
  move.set_reason(order.caller.reason());
  return move;
}

Move first_move(const Order& order, const v1::ClaimReply& claimed) {
  Move move{.request = move_of(order, claimed.claim(), ""), .message = {}};
  v1::TransitionRequest& request = move.request;
  switch (order.operation) {
    case Operation::kAllocate:
      request.set_state("allocated");
      request.set_plan_aaa(true);  // the next login gets its address
      return move;
    case Operation::kActivate:
      request.set_state("active");
      request.set_plan_aaa(true);
      if (order.send_radius) request.set_plan_radius("coa");
      request.set_plan_netbox("set_active");
      return move;
    case Operation::kSuspend:
      request.set_state("suspended");
      request.set_add_hold(order.caller.reason().empty() ? "operator" : order.caller.reason());
      request.set_plan_aaa(true);
      if (order.send_radius) request.set_plan_radius("coa");
      request.set_plan_netbox("suspend");
      return move;
    case Operation::kReactivate: return reactivation(order, claimed);
    case Operation::kRevoke:
    case Operation::kRetry: request = revocation(order, claimed.claim()); return move;
    case Operation::kAdopt:
      request.set_state(order.adopted_state);
      if (order.adopted_state == "suspended") request.set_add_hold("operator");
      request.set_plan_aaa(true);
      request.set_plan_netbox(netbox_action_for(order.adopted_state));
      return move;
    case Operation::kForceRelease:
      request.set_state("revoked");
      request.set_plan_aaa(true);  // whoever had the space does not get it at the next login
      return move;
    case Operation::kMove:
    case Operation::kRebind:
    case Operation::kChangePlan:
    case Operation::kReaddress: change(request, order); return move;
  }
  throw refusal(ErrorCode::kInternal, "an operation without a move");
}

v1::ReserveRequest reservation_of(const Order& order, const v1::Claim& claim,
                                  const std::string& family) {
  const bool ipv4 = family == domain::kFamilyIpv4;
  v1::ReserveRequest request;
  *request.mutable_claim() = claim;
  request.set_family(family);
  request.set_pool_id(ipv4 ? order.pool_id : order.ipv6_pool_id);
  request.set_requested_address(ipv4 ? order.requested_address : order.requested_prefix);
  request.set_prefix_length(ipv4 ? 0 : order.pd_size);
  request.set_instead(order.operation == Operation::kReaddress);
  request.set_created_by(order.created_by.empty() ? order.caller.key() : order.created_by);
  return request;
}

void take_families(Order& order, const v1::ClaimReply& claimed) {
  if (claimed.families_size() > 0)
    order.families.assign(claimed.families().begin(), claimed.families().end());
  if (order.families.empty()) order.families.emplace_back(domain::kFamilyIpv4);
}

}  // namespace addrflow::workflows
