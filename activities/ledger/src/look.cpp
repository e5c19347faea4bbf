#include "look.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <addrflow/domain/ids.hpp>
#include <addrflow/ledger/ledger.hpp>
#include <algorithm>

#include "store.hpp"

namespace addrflow::ledger {
namespace {

v1::BindingView& binding_in(v1::ServiceView& view, const std::string& family) {
  for (v1::BindingView& binding : *view.mutable_bindings()) {
    if (binding.family() == family) return binding;
  }
  v1::BindingView& made = *view.add_bindings();
  made.set_family(family);
  return made;
}

Row* row_in(std::vector<Row>& rows, const std::string& family) {
  const auto found = std::ranges::find(rows, family, &Row::family);
  return found == rows.end() ? nullptr : &*found;
}

class Looking : public LedgerLook {
 public:
  Looking(Tx& tx, const Settings& settings, ServiceRef service)
      : tx_(tx), settings_(settings), service_(std::move(service)) {
    supposed_.view = read_view(tx_, service_);
    const auto head = read_head(tx_, service_, Lock::kNo);
    if (!head) {
      supposed_.session.restrict_when = "any";
      return;
    }
    supposed_.head = *head;
    supposed_.session = read_session_facts(tx_, head->id);
    for (const Row& row : supposed_.session.rows)
      supposed_.holds[row.family] = read_holds(tx_, head->id, row.family);
    owed_ = {.aaa = will_owe("aaa"), .radius = will_owe("radius")};
  }

  v1::ComposeClaimReply compose_claim(const v1::ComposeClaimRequest& request) override {
    return look_at_composition(tx_, request, service_);
  }

  v1::ClaimReply claim(const v1::ClaimRequest& request) override {
    operation_ = request.operation();
    const auto asked = nlohmann::json::parse(request.request_json(), nullptr, false);
    leaves_netbox_alone_ = asked.is_object() && !asked.value("update_netbox", true);
    const Supposed before = supposed_;
    former_ = {.username = domain::username_of(before.session.username, service_.subscriber_id()),
               .nas_ip = before.session.nas_ip};
    v1::ClaimReply reply = look_at_claim(tx_, request, settings_, supposed_);
    std::vector<std::string> changes = names_changed(before);
    for (const auto& [family, holds] : supposed_.holds) {
      for (const std::string& hold : without(holds, before.holds, family))
        changes.push_back(fmt::format("+ {} hold {}", family, hold));
    }
    if (!changes.empty()) note("claim", service_.service(), std::move(changes));
    supposed_.show();
    *reply.mutable_view() = supposed_.view;
    return reply;
  }

  v1::ReserveReply reserve(const v1::ReserveRequest& request) override;
  void transition(const v1::TransitionRequest& request) override;

  const std::vector<v1::PlannedEffect>& effects() const override { return effects_; }
  v1::ServiceView view() const override { return supposed_.view; }

 private:
  // What the next claim supersedes counts as owed from then on.
  bool will_owe(const std::string& system) {
    return owes(tx_, supposed_.head.id, system, Owing::kOnceAllIsSuperseded);
  }

  static std::vector<std::string> without(std::vector<std::string> holds,
                                          const std::map<std::string, std::vector<std::string>>& of,
                                          const std::string& family) {
    if (const auto found = of.find(family); found != of.end()) {
      for (const std::string& hold : found->second) std::erase(holds, hold);
    }
    return holds;
  }

  std::vector<std::string> names_changed(const Supposed& before) const {
    std::vector<std::string> changes;
    const auto compare = [&](const char* name, const std::string& was, const std::string& is) {
      if (was == is) return;
      if (!was.empty()) changes.push_back(fmt::format("- {} {}", name, was));
      changes.push_back(fmt::format("+ {} {}", name, is));
    };
    compare("username", before.session.username, supposed_.session.username);
    compare("nas_ip", before.session.nas_ip, supposed_.session.nas_ip);
    compare("plan", before.session.plan, supposed_.session.plan);
    compare("restrict_when", before.session.restrict_when, supposed_.session.restrict_when);
    return changes;
  }

  v1::PlannedEffect& add(const std::string& system, const std::string& action,
                         const std::string& target) {
    v1::PlannedEffect& effect = effects_.emplace_back();
    effect.set_operation(operation_);
    effect.set_system(system);
    effect.set_action(action);
    effect.set_target(target);
    return effect;
  }
  void note(const std::string& action, const std::string& target,
            std::vector<std::string> changes) {
    v1::PlannedEffect& effect = add("ledger", action, target);
    for (std::string& change : changes) effect.add_changes(std::move(change));
  }

  NetboxFacts netbox_facts(const Picked& picked, const std::string& family) {
    const auto row = tx_.exec_params(
        "SELECT masklen(p.prefix), coalesce(d.netbox_vrf_id, 0), coalesce(p.netbox_prefix_id, 0)"
        " FROM ip_pools p"
        " JOIN routing_domains d ON d.id = p.routing_domain_id WHERE p.id = $1::uuid",
        picked.pool.id)[0];
    const bool ipv4 = family == domain::kFamilyIpv4;
    return {.mode = picked.pool.netbox_mode,
            .key = netbox_key(service_, family, picked.space),
            .space = picked.space,
            .family = family,
            .state = "pending",
            .prefix_length = ipv4 ? row[0].as<int>()
                                  : std::stoi(picked.space.substr(picked.space.find('/') + 1)),
            .vrf_id = row[1].as<std::int64_t>(),
            .pool_id = picked.pool.id,
            .pool_netbox_id = row[2].as<std::int64_t>()};
  }

  void leave(const Row& former);
  void plan_object(const NetboxFacts& facts, const std::string& action) {
    if (facts.mode == "off" || leaves_netbox_alone_) return;
    add("netbox", action, facts.key).set_wish(netbox_wish(service_, facts, action).dump());
  }

  void change_holds(const v1::TransitionRequest& request, State to,
                    std::vector<std::string>& changes);
  void move(const v1::TransitionRequest& request, State to, const std::string& family,
            std::vector<std::string>& changes);

  Tx& tx_;
  const Settings& settings_;
  const ServiceRef service_;
  Supposed supposed_;
  FormerNames former_;
  Owed owed_;
  bool cut_ = false;  // by a Disconnect of this plan
  std::string operation_;
  bool leaves_netbox_alone_ = false;
  std::vector<v1::PlannedEffect> effects_;
};

v1::ReserveReply Looking::reserve(const v1::ReserveRequest& request) {
  const std::string& family = request.family();
  if (family == domain::kFamilyIpv6Pd) check_assignment_mode(tx_, service_);
  Row* row = row_in(supposed_.session.rows, family);
  const std::optional<Row> former =
      request.instead() && row != nullptr ? std::optional{*row} : std::nullopt;
  Wish wish{.family = family,
            .prefix_length = request.prefix_length(),
            .pool = request.pool_id(),
            .requested = request.requested_address(),
            .service_id = supposed_.head.id,
            .nas_ip = nas_address(tx_, supposed_.session.nas_ip)};
  if (former) stay_in_pool(tx_, wish, *former, former_.nas_ip);
  const bool held = !former && row != nullptr && row->space_held;
  const bool again = held && takes_up_again(tx_, *row, wish);
  const std::optional<Row> left = held && !again ? std::optional{*row} : former;
  const Picked picked = again ? peek_again(tx_, *row) : peek(tx_, wish);
  if (!again) {
    must_be_open(tx_, settings_, picked.pool);
    if (picked.pool.netbox_mode == "authoritative" && leaves_netbox_alone_)
      throw behind_netbox(picked.pool);
  }
  const std::int64_t generation = supposed_.head.generation + 1;
  note("reserve", family,
       {fmt::format("+ {} {} of pool {}, generation {} ({})", family, picked.space,
                    picked.pool.name, generation, picked.method)});
  if (picked.method == "auto")
    effects_.back().set_note("the next one that is free now: another request may come first");
  if (picked.pool.netbox_mode == "authoritative")
    effects_.back().set_note("NetBox has the last word on what is free");
  if (left) {
    effects_.back().add_changes(
        fmt::format("- {} {} leaves through the release gate", left->family, left->address));
  }
  if (row == nullptr) row = &supposed_.session.rows.emplace_back();
  *row = {.family = family,
          .state = former ? former->state : State::kPending,
          .address = picked.space,
          .pool_id = picked.pool.id,
          .generation = generation,
          .created_by = request.created_by(),
          .space_held = true};
  supposed_.reserved[family] = netbox_facts(picked, family);
  if (!former) supposed_.holds[family].clear();
  v1::BindingView& binding = binding_in(supposed_.view, family);
  binding.Clear();
  binding.set_family(family);
  binding.set_pool(picked.pool.name);
  supposed_.show();
  const bool picks = picked.pool.netbox_mode == "authoritative" && picked.method == "auto";
  plan_object(supposed_.reserved[family], picks ? "take" : "reserve");
  if (former) leave(*former);

  v1::ReserveReply reply;
  reply.set_address(picked.space);
  reply.set_pool(picked.pool.name);
  reply.set_generation(generation);
  reply.set_netbox_mode(picked.pool.netbox_mode);
  return reply;
}

void Looking::leave(const Row& former) {
  const auto facts = read_netbox_facts(tx_, former.id);
  if (facts) plan_object(*facts, "deprecate");
}

void Looking::change_holds(const v1::TransitionRequest& request, State to,
                           std::vector<std::string>& changes) {
  for (const std::string& family : request.families()) {
    const std::vector<std::string> before = supposed_.holds[family];
    if (!request.add_hold().empty()) supposed_.add_hold(family, request.add_hold());
    std::vector<std::string>& holds = supposed_.holds[family];
    std::erase(holds, request.remove_hold());
    if (to == State::kRevoking || to == State::kRevoked) holds.clear();
    for (const std::string& hold : before) {
      if (std::ranges::find(holds, hold) == holds.end())
        changes.push_back(fmt::format("- {} hold {}", family, hold));
    }
    for (const std::string& hold : holds) {
      if (std::ranges::find(before, hold) == before.end())
        changes.push_back(fmt::format("+ {} hold {}", family, hold));
    }
  }
}

void Looking::move(const v1::TransitionRequest& request, State to, const std::string& family,
                   std::vector<std::string>& changes) {
  Row* row = row_in(supposed_.session.rows, family);
  if (row == nullptr || (to == State::kRevoking && row->state == State::kRevoked)) return;
  if (!request.remove_hold().empty())
    to = supposed_.holds[family].empty() ? State::kActive : State::kSuspended;
  if (row->state != to) {
    changes.push_back(
        fmt::format("- {} {} {}", family, row->address, domain::to_string(row->state)));
    changes.push_back(fmt::format("+ {} {} {}", family, row->address, domain::to_string(to)));
  }
  row->state = to;
  if (to != State::kRevoking && to != State::kRevoked) return;
  row->kept = row->kept || request.keep_for_subscriber();
  changes.push_back(fmt::format("+ {} {} is held until the release gate opens{}", family,
                                row->address, row->kept ? ", and kept for the subscriber" : ""));
}

void Looking::transition(const v1::TransitionRequest& request) {
  const auto to = domain::parse_state(request.state());
  if (!to) throw LedgerError{ErrorCode::kInvalidArgument, "state is not known: " + request.state()};
  const nlohmann::json before = session_wish(service_, supposed_.session);
  const Supposed was = supposed_;
  if (!request.username().empty())
    supposed_.take_username(request.username(), supposed_.session.username);
  supposed_.take_names(nas_address(tx_, request.nas_ip()), request.plan());
  std::vector<std::string> changes = names_changed(was);
  change_holds(request, *to, changes);
  const std::vector<std::string> families{request.families().begin(), request.families().end()};
  if (!request.keep_state()) {
    for (const std::string& family : families) move(request, *to, family, changes);
  }
  supposed_.show();
  note("move", fmt::format("{}", fmt::join(families, ", ")), std::move(changes));

  const nlohmann::json wish = session_wish(service_, supposed_.session);
  owed_.cut = !cut_ && cut_is_owed(tx_, supposed_.head.id, supposed_.session.rows, families);
  owed_.renumber = renumbering_is_owed(tx_, supposed_.head.id);
  const WantedEffects wanted = wanted_effects(request, *to, before, wish, owed_);
  if (wanted.aaa) {
    add("aaa", "apply", wish.at("username"))
        .set_wish(aaa_wish(wish, supposed_.session.left_usernames).dump());
  }
  if (!wanted.radius.empty())
    add("radius", wanted.radius, wish.at("username"))
        .set_wish(
            packet_wish(request, with_plans_left(tx_, supposed_.head.id, wish), former_, owed_)
                .dump());
  if (wanted.aaa) owed_.aaa = false;
  if (!wanted.radius.empty()) owed_.radius = false;
  cut_ = cut_ || wanted.radius == "disconnect";
  if (request.plan_netbox().empty()) return;
  for (const Row& row : supposed_.session.rows) {
    if (std::ranges::find(families, row.family) == families.end()) continue;
    const Row* before = find_row(was.session.rows, row.family);
    const std::string action = object_action(
        request, row, before == nullptr ? std::nullopt : std::optional{before->state});
    if (action.empty()) continue;
    const auto reserved = supposed_.reserved.find(row.family);
    std::optional<NetboxFacts> facts;
    if (reserved != supposed_.reserved.end()) facts = reserved->second;
    if (!facts) facts = read_netbox_facts(tx_, row.id);
    if (facts) plan_object(*facts, action);
  }
}

}  // namespace

void Supposed::take_username(const std::string& username, const std::string& before) {
  for (auto* former : {&session.former_usernames, &session.left_usernames}) {
    std::erase(*former, username);
    if (before.empty() || before == username) continue;
    std::erase(*former, before);
    former->push_back(before);
  }
  session.username = head.username = username;
}

void Supposed::take_names(const std::string& nas_ip, const std::string& plan,
                          const std::string& restrict_when) {
  if (!nas_ip.empty()) session.nas_ip = head.nas_ip = nas_ip;
  if (!plan.empty()) session.plan = head.plan = plan;
  if (!restrict_when.empty()) session.restrict_when = head.restrict_when = restrict_when;
}

void Supposed::add_hold(const std::string& family, const std::string& reason) {
  std::vector<std::string>& of = holds[family];
  if (std::ranges::find(of, reason) == of.end()) of.push_back(reason);
}

void Supposed::show() {
  view.set_number(head.number);
  view.set_username(session.username);
  view.set_nas_ip(session.nas_ip);
  view.set_plan(session.plan);
  view.set_restrict_when(session.restrict_when);
  view.clear_holds();
  std::vector<std::string> all;
  for (const Row& row : session.rows) {
    v1::BindingView& binding = binding_in(view, row.family);
    binding.set_state(text(domain::to_string(row.state)));
    const bool ipv4 = row.family == domain::kFamilyIpv4;
    (ipv4 ? *binding.mutable_address() : *binding.mutable_prefix()) = row.address;
    binding.set_generation(row.generation);
    binding.set_space_held(row.space_held);
    binding.clear_holds();
    for (const std::string& hold : holds[row.family]) {
      binding.add_holds(hold);
      if (std::ranges::find(all, hold) == all.end()) all.push_back(hold);
    }
  }
  for (const std::string& hold : all) view.add_holds(hold);
}

void Ledger::look(const ServiceRef& asked, const std::function<void(LedgerLook&)>& work) {
  const ServiceRef service = checked(asked);
  store_->look_as_tenant(service.tenant_id(), [&](Tx& tx) {
    guard(tx);
    Looking look{tx, settings_, service};
    work(look);
    return true;
  });
}

}  // namespace addrflow::ledger
