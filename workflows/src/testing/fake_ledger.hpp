// The ledger's side of the contract, as small as a workflow test allows: numbers, states, effects
// by id. What it does not check is the real ledger's to check.
#pragma once

#include <addrflow/catalog/catalog.hpp>
#include <addrflow/domain/operation.hpp>
#include <addrflow/domain/state.hpp>
#include <addrflow/domain/transition_table.hpp>
#include <tempora/failure.hpp>

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace addrflow::workflows::testing {

inline tempora::ApplicationError refused(const std::string& type, const std::string& message) {
  return tempora::ApplicationError{message, type, true};
}

struct FakeLedger {
  // What the world answers, by "system/action"; the default is "confirmed".
  std::map<std::string, std::function<v1::EffectReply(int attempt)>> world;
  std::vector<std::string> log;  // what reached the world: "aaa/apply", "radius/coa" …
  std::string subscriber = "42";
  std::optional<domain::State> state;  // of ipv4
  std::string address = "203.0.113.7";
  std::optional<domain::State> state6;  // of ipv6_pd
  std::string prefix = "2001:db8:1200::/56";
  std::set<std::string> held;     // families whose space is still held
  std::set<std::string> leaving;  // families of which former space waits for the gate
  std::vector<std::string> holds;
  std::int64_t number = 0;
  std::int64_t next_effect = 0;
  std::int64_t next_operation = 0;
  bool netbox = true;
  int gate_opens_after = 0;  // looks that find it closed
  bool restate = false;
  bool undo_tells = false;    // an undo has rows to put back, and a packet after them
  bool netbox_picks = false;  // the pool is authoritative
  std::string pick_refused;   // why the ledger cannot have NetBox's pick
  std::string reserve_refusal;
  std::string reserve_refused_family;  // empty: any
  v1::PendingReply pending;
  std::map<std::string, v1::LifecycleResult> recorded;  // by key
  std::map<std::string, std::string> open;              // by key: request
  std::map<std::int64_t, std::string> keys;             // by operation
  std::vector<v1::TransitionRequest> moves;
  std::vector<v1::ReserveRequest> reserved;
  std::vector<v1::GateRequest> looks;
  std::vector<v1::UndoRequest> undone;
  std::vector<v1::AuditRequest> audited;
  std::map<std::int64_t, int> attempts;

  v1::ServiceView view() const {
    v1::ServiceView view;
    view.mutable_service()->set_tenant_id("acme");
    view.mutable_service()->set_subscriber_id(subscriber);
    view.mutable_service()->set_service("internet");
    view.set_number(number);
    for (const auto& hold : holds) view.add_holds(hold);
    for (const auto& family : leaving) view.add_leaving(family);
    if (state) {
      v1::BindingView& binding = *view.add_bindings();
      binding.set_family("ipv4");
      binding.set_state(std::string{domain::to_string(*state)});
      if (*state != domain::State::kRevoked) binding.set_address(address);
      binding.set_space_held(held.contains("ipv4"));
    }
    if (state6) {
      v1::BindingView& binding = *view.add_bindings();
      binding.set_family("ipv6_pd");
      binding.set_state(std::string{domain::to_string(*state6)});
      if (*state6 != domain::State::kRevoked) binding.set_prefix(prefix);
      binding.set_space_held(held.contains("ipv6_pd"));
    }
    return view;
  }

  std::optional<domain::State>& state_of(const std::string& family) {
    return family == "ipv4" ? state : state6;
  }

  std::vector<std::string> families_of(const v1::ClaimRequest& request) const {
    if (request.families_size() > 0) return {request.families().begin(), request.families().end()};
    std::vector<std::string> families;
    if (state || !state6) families.emplace_back("ipv4");
    if (state6) families.emplace_back("ipv6_pd");
    return families;
  }

  v1::EffectRef effect(const std::string& system, const std::string& action) {
    v1::EffectRef ref;
    ref.set_effect_id(++next_effect);
    ref.set_system(system);
    ref.set_action(action);
    return ref;
  }

  v1::ClaimReply claim(const v1::ClaimRequest& request) {
    v1::ClaimReply reply;
    const std::string& key = request.caller().key();
    if (recorded.contains(key)) {
      reply.set_outcome("recorded");
      *reply.mutable_result() = recorded.at(key);
      return reply;
    }
    const auto operation = *domain::parse_operation(request.operation());
    for (const std::string& family : families_of(request)) {
      const domain::Verdict verdict = domain::check(operation, state_of(family));
      if (verdict.kind == domain::Verdict::Kind::kRefuse) {
        throw refused(std::string{domain::to_string(verdict.code)},
                      domain::refusal(operation, state_of(family)));
      }
      const bool former = verdict.guard == domain::Guard::kFormerSpace;
      if (former && !leaving.contains(family)) {
        throw refused("illegal_transition", domain::refusal(operation, state_of(family)));
      }
      if (verdict.kind == domain::Verdict::Kind::kMove) reply.add_families(family);
    }
    if (reply.families().empty()) {
      reply.set_outcome("nothing");
      reply.mutable_result()->set_success(true);
      reply.mutable_result()->set_code("ok");
      if (state) reply.mutable_result()->set_state(std::string{domain::to_string(*state)});
      return reply;
    }
    reply.set_outcome("claimed");
    v1::Claim& claim = *reply.mutable_claim();
    *claim.mutable_service() = request.service();
    claim.set_number(++number);
    claim.set_operation_id(++next_operation);
    keys[claim.operation_id()] = key;
    *reply.mutable_view() = view();
    reply.set_restate(restate);
    reply.set_restate_after_ms(restate ? 30'000 : 0);
    return reply;
  }

  v1::ReserveReply reserve(const v1::ReserveRequest& request) {
    reserved.push_back(request);
    const bool meant = reserve_refused_family.empty() || reserve_refused_family == request.family();
    if (!reserve_refusal.empty() && meant)
      throw refused(reserve_refusal, "No available IP addresses");
    v1::ReserveReply reply;
    const bool asks = netbox_picks && request.family() == "ipv4" && request.taken_effect() == 0 &&
                      request.exhausted().empty() && !request.netbox_asked();
    if (request.instead() && !asks) {
      if (netbox && leaving.insert(request.family()).second)
        *reply.mutable_former() = effect("netbox", "deprecate");
      prefix = "2001:db8:3400::/56";
    }
    if (request.family() == "ipv6_pd") {
      reply.set_address(prefix);
      reply.set_netbox_mode("off");
      return reply;
    }
    if (asks) {
      reply.set_netbox_picks(true);
      reply.set_netbox_mode("authoritative");
      (*reply.mutable_metadata())["pool_id"] = "p1";
      *reply.mutable_netbox() = effect("netbox", "take");
      return reply;
    }
    if (request.taken_effect() != 0 && !pick_refused.empty()) {
      reply.set_refused(pick_refused);
      return reply;
    }
    address = "203.0.113." + std::to_string((request.instead() ? 70 : 7) + request.avoid_size());
    reply.set_address(address);
    reply.set_netbox_mode(netbox_picks ? "authoritative" : "mirror");
    if (request.taken_effect() != 0) return reply;
    if (netbox) *reply.mutable_netbox() = effect("netbox", "reserve");
    return reply;
  }

  v1::TransitionReply transition(const v1::TransitionRequest& request) {
    moves.push_back(request);
    for (const std::string& family : request.families()) {
      const bool lives = state_of(family) && leaving.contains(family);
      if (!request.keep_state() && !(request.state() == "revoked" && lives))
        state_of(family) = domain::parse_state(request.state());
    }
    if (!request.add_hold().empty()) holds.push_back(request.add_hold());
    std::erase(holds, request.remove_hold());
    v1::TransitionReply reply;
    *reply.mutable_view() = view();
    if (request.plan_aaa()) *reply.mutable_aaa() = effect("aaa", "apply");
    if (!request.plan_radius().empty())
      *reply.mutable_radius() = effect("radius", request.plan_radius());
    if (netbox && !request.plan_netbox().empty()) {
      *reply.mutable_netbox() = effect("netbox", request.plan_netbox());
    }
    return reply;
  }

  v1::EffectReply apply(const v1::EffectRequest& request) {
    const std::string name = request.effect().system() + "/" + request.effect().action();
    log.push_back(name);
    const int attempt = ++attempts[request.effect().effect_id()];
    if (world.contains(name)) return world.at(name)(attempt);
    v1::EffectReply reply;
    reply.set_status("confirmed");
    if (request.effect().action() == "coa") reply.set_code("CoA-ACK");
    if (request.effect().action() == "disconnect") reply.set_code("Disconnect-ACK");
    return reply;
  }

  v1::FinishReply finish(const v1::FinishRequest& request) {
    recorded[keys[request.claim().operation_id()]] = request.result();
    v1::FinishReply reply;
    *reply.mutable_result() = request.result();
    *reply.mutable_result()->mutable_service_view() = view();
    return reply;
  }

  v1::UndoReply undo(const v1::UndoRequest& request) {
    undone.push_back(request);
    leaving.clear();
    v1::UndoReply reply;
    if (undo_tells) {
      *reply.mutable_aaa() = effect("aaa", "apply");
      *reply.add_more() = effect("radius", "coa");
      reply.set_restate(restate);
      reply.set_restate_after_ms(restate ? 40'000 : 0);
    }
    *reply.mutable_view() = view();
    return reply;
  }

  v1::GateReply gate(const v1::GateRequest& request) {
    looks.push_back(request);
    v1::GateReply reply;
    reply.set_open(gate_opens_after-- <= 0);
    reply.set_detail(reply.open() ? "the session is gone" : "a session is open");
    if (reply.open()) {
      held.clear();
      leaving.clear();
    }
    *reply.mutable_view() = view();
    return reply;
  }

  template <class Play>
  void plays_in(Play& play) {
    play.on(catalog::kPending, [this](const v1::ViewRequest&) { return pending; });
    play.on(catalog::kClaim, [this](const v1::ClaimRequest& r) { return claim(r); });
    play.on(catalog::kReserve, [this](const v1::ReserveRequest& r) { return reserve(r); });
    play.on(catalog::kTransition, [this](const v1::TransitionRequest& r) { return transition(r); });
    play.on(catalog::kFinish, [this](const v1::FinishRequest& r) { return finish(r); });
    play.on(catalog::kUndo, [this](const v1::UndoRequest& r) { return undo(r); });
    play.on(catalog::kGate, [this](const v1::GateRequest& r) { return gate(r); });
    play.on(catalog::kAudit, [this](const v1::AuditRequest& r) {
      audited.push_back(r);
      return v1::Empty{};
    });
    for (const auto* type : {&catalog::kAaaApply, &catalog::kRadiusSend, &catalog::kNetboxApply}) {
      play.on(*type, [this](const v1::EffectRequest& r) { return apply(r); });
    }
  }
};

inline v1::EffectReply effect_reply(const std::string& status, const std::string& code = {},
                                    bool retry = false) {
  v1::EffectReply reply;
  reply.set_status(status);
  reply.set_code(code);
  reply.set_retry(retry);
  return reply;
}

}  // namespace addrflow::workflows::testing
