// Moves bindings, and writes down the effects that follow, in one transaction.
#include <addrflow/domain/ids.hpp>
#include <addrflow/ledger/ledger.hpp>
#include <algorithm>
#include <map>
#include <optional>

#include "rows.hpp"
#include "store.hpp"

namespace addrflow::ledger {
namespace {

constexpr int kMostFormerPlans = 8;  // one packet carries each of them

bool changes_holds(const v1::TransitionRequest& request) {
  return !request.add_hold().empty() || !request.remove_hold().empty();
}

class Moving {
 public:
  Moving(Tx& tx, const v1::TransitionRequest& request, const Head& head, State to)
      : tx_(tx),
        request_(request),
        service_(checked(request.claim().service())),
        head_(head),
        to_(to) {}

  v1::TransitionReply run() {
    const nlohmann::json before = session_wish(tx_, service_, head_.id);
    for (const Row& row : read_rows(tx_, head_.id)) states_before_[row.family] = row.state;
    take_names();
    change_holds();
    if (!request_.keep_state()) {
      for (const std::string& family : families()) move(family);
    }
    v1::TransitionReply reply;
    plan(reply, before);
    *reply.mutable_view() = read_view(tx_, service_);
    const std::string what = request_.keep_state() ? operation() + " of the line"
                                                   : "moved to " + text(domain::to_string(to_));
    write_audit(tx_, service_, what, request_.actor(), address_, pool_id_, "ok", request_.reason());
    return reply;
  }

 private:
  std::vector<std::string> families() const {
    if (request_.families().empty()) return {std::string{domain::kFamilyIpv4}};
    return {request_.families().begin(), request_.families().end()};
  }

  // A username that changes stays known: an old session may still run under it.
  void take_names() {
    tx_.exec_params(
        "UPDATE services SET former_usernames = CASE WHEN $2 = '' OR username IN ('', $2)"
        " THEN former_usernames"
        " ELSE array_append(array_remove(array_remove(former_usernames, $2), username), username)"
        " END, username = CASE WHEN $2 = '' THEN username ELSE $2 END,"
        " nas_ip = CASE WHEN $3 = '' THEN nas_ip ELSE $3 END,"
        " plan = CASE WHEN $4 = '' THEN plan ELSE $4 END WHERE id = $1",
        head_.id, request_.username(), nas_address(tx_, request_.nas_ip()), request_.plan());
  }

  void change_holds() {
    for (const std::string& family : families()) {
      if (!request_.add_hold().empty()) {
        tx_.exec_params(
            "INSERT INTO holds (service_id, tenant_id, family, reason, actor)"
            " VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
            head_.id, service_.tenant_id(), family, request_.add_hold(), request_.actor());
      }
      if (!request_.remove_hold().empty()) {
        tx_.exec_params("DELETE FROM holds WHERE service_id = $1 AND family = $2 AND reason = $3",
                        head_.id, family, request_.remove_hold());
      }
      if (to_ == State::kRevoking || (to_ == State::kRevoked && !only_former(family))) {
        tx_.exec_params("DELETE FROM holds WHERE service_id = $1 AND family = $2", head_.id,
                        family);
      }
    }
  }

  // A family is free of its suspension when its own last hold is gone.
  State target(const std::string& family) {
    if (request_.remove_hold().empty()) return to_;
    return read_holds(tx_, head_.id, family).empty() ? State::kActive : State::kSuspended;
  }

  void move(const std::string& family) {
    const auto rows = read_rows(tx_, head_.id);
    const Row* row = find_row(rows, family);
    if (row == nullptr) return;
    if (address_.empty()) {
      address_ = row->address;
      pool_id_ = row->pool_id;
    }
    if (only_former(family)) return force_former(*row);
    // The gate may have opened, and closed the chapter, before the last confirmation came.
    if (to_ == State::kRevoking && row->state == State::kRevoked) return;
    const State to = target(family);
    if (operation() == "adopt") check_adopted(*row);
    tx_.exec_params(
        "UPDATE ip_reservations SET lifecycle_state = $2::lifecyclestate,"
        " lifecycle_allocated_at = CASE WHEN $2 = 'allocated' AND lifecycle_state <> 'allocated'"
        "   THEN clock_timestamp() ELSE lifecycle_allocated_at END,"
        " lifecycle_activated_at = CASE WHEN $2 = 'active' AND lifecycle_state <> 'active'"
        "   THEN clock_timestamp() ELSE lifecycle_activated_at END,"
        " lifecycle_suspended_at = CASE WHEN $2 = 'suspended' AND lifecycle_state <> 'suspended'"
        "   THEN clock_timestamp() ELSE lifecycle_suspended_at END,"
        " lifecycle_revoked_at = CASE WHEN $2 = 'revoked'"
        "   THEN coalesce(lifecycle_revoked_at, clock_timestamp()) ELSE lifecycle_revoked_at END,"
        " revoking_since = CASE WHEN $2 = 'revoking'"
        "   THEN coalesce(revoking_since, clock_timestamp()) ELSE revoking_since END,"
        " updated_at = clock_timestamp() WHERE id = $1",
        row->id, text(domain::to_string(to)));
    if (to == State::kRevoking || to == State::kRevoked) release(*row);
  }

  // Of a line that lives a person forces what it had before, and nothing else.
  bool only_former(const std::string& family) {
    if (to_ != State::kRevoked || operation() != "force_release") return false;
    const auto rows = read_rows(tx_, head_.id);
    const Row* row = find_row(rows, family);
    return row != nullptr && (row->state == State::kAllocated || row->state == State::kActive ||
                              row->state == State::kSuspended);
  }

  void force_former(const Row& row) {
    tx_.exec_params(
        "UPDATE holdings SET forced = true, kept = false WHERE service_id = $1 AND family = $2"
        " AND upper_inf(period) AND releasing AND id <> $3",
        head_.id, row.family, row.holding_id);
  }

  // What a person confirms must be what the ledger can bear: a live state needs the space, and
  // `revoked` needs it gone.
  void check_adopted(const Row& row) {
    const bool live = to_ == State::kAllocated || to_ == State::kActive || to_ == State::kSuspended;
    if (!live && to_ != State::kRevoked) {
      throw LedgerError{ErrorCode::kInvalidArgument,
                        "state must be allocated, active, suspended or revoked"};
    }
    if (live && !row.space_held) {
      throw LedgerError{ErrorCode::kConflict, "state cannot be " + request_.state() + ": " +
                                                  row.family + " holds no space"};
    }
    if (!live && row.space_held) {
      throw LedgerError{ErrorCode::kConflict,
                        "state cannot be revoked: " + row.address + " is still held"};
    }
    if (to_ != State::kSuspended && !read_holds(tx_, head_.id, row.family).empty()) {
      throw LedgerError{ErrorCode::kConflict, "state cannot be " + request_.state() +
                                                  ": there are holds: adopt suspended"};
    }
  }

  void release(const Row& row) {
    // `revoked` by the operation itself, not after its own `revoking`, is a person's force_release.
    const bool forced = to_ == State::kRevoked && operation() == "force_release";
    tx_.exec_params(
        "UPDATE holdings SET releasing = true,"
        " releasing_since = coalesce(releasing_since, clock_timestamp()), kept = kept OR $2,"
        " forced = forced OR $3 WHERE id = $1 AND upper_inf(period)",
        row.holding_id, request_.keep_for_subscriber(), forced);
    if (forced) {
      tx_.exec_params("UPDATE holdings SET kept = false WHERE id = $1 AND upper_inf(period)",
                      row.holding_id);
      force_former(row);
    }
  }

  std::string operation() {
    return tx_
        .exec_params("SELECT operation FROM operations WHERE id = $1",
                     request_.claim().operation_id())[0][0]
        .c_str();
  }

  void plan(v1::TransitionReply& reply, const nlohmann::json& before) {
    const std::int64_t operation = request_.claim().operation_id();
    const std::int64_t number = request_.claim().number();
    const nlohmann::json wish = session_wish(tx_, service_, head_.id);
    Owed owed;
    if (head_.number > 1) {  // before it there was nobody to tell
      owed = {.aaa = owes(tx_, head_.id, "aaa"),
              .radius = owes(tx_, head_.id, "radius"),
              .cut = cut_is_owed(tx_, head_.id, read_rows(tx_, head_.id), families()),
              .renumber = renumbering_is_owed(tx_, head_.id)};
    }
    const WantedEffects wanted = wanted_effects(request_, to_, before, wish, owed);
    if (wanted.aaa) {
      *reply.mutable_aaa() =
          plan_effect(tx_, service_, head_.id, operation, number, "aaa", "apply", "", wish);
    }
    if (!wanted.radius.empty()) {
      const nlohmann::json told = with_plans_left(tx_, head_.id, wish);
      *reply.mutable_radius() =
          plan_effect(tx_, service_, head_.id, operation, number, "radius", wanted.radius, "",
                      packet_wish(request_, told, names_before(tx_, service_, operation), owed));
    }
    plan_objects(reply, operation, number);
  }

  void plan_objects(v1::TransitionReply& reply, std::int64_t operation, std::int64_t number) {
    if (request_.plan_netbox().empty()) return;
    const auto wanted = families();
    for (const Row& row : read_rows(tx_, head_.id)) {
      if (std::ranges::find(wanted, row.family) == wanted.end()) continue;
      const auto before = states_before_.find(row.family);
      const std::string action = object_action(
          request_, row,
          before == states_before_.end() ? std::nullopt : std::optional{before->second});
      if (action.empty()) continue;
      const auto effect = plan_netbox(tx_, service_, head_.id, operation, number, row.id, action);
      if (effect.effect_id() == 0) continue;
      *(reply.has_netbox() ? reply.add_more() : reply.mutable_netbox()) = effect;
    }
  }

  Tx& tx_;
  const v1::TransitionRequest& request_;
  const ServiceRef service_;
  const Head head_;
  State to_;
  std::map<std::string, State> states_before_;  // by family
  std::string address_;
  std::string pool_id_;
};

}  // namespace

FormerNames names_before(Tx& tx, const ServiceRef& service, std::int64_t operation) {
  const auto before = tx.exec_params(
      "SELECT coalesce(nullif(before->>'username', ''), $2), coalesce(before->>'nas_ip', '')"
      " FROM operations WHERE id = $1",
      operation, service.subscriber_id())[0];
  return {.username = before[0].c_str(), .nas_ip = before[1].c_str()};
}

nlohmann::json with_plans_left(Tx& tx, std::int64_t service_id, nlohmann::json wish) {
  nlohmann::json former = nlohmann::json::array();
  for (const auto& row : tx.exec_params(
           "WITH told AS (SELECT id, planned_at FROM effects WHERE service_id = $1"
           "  AND system = 'radius' AND status IN ('confirmed', 'not_applicable')"
           "  ORDER BY id DESC LIMIT 1)"
           " SELECT e.wish->>'plan' FROM effects e LEFT JOIN told ON true WHERE e.service_id = $1"
           " AND e.system IN ('aaa', 'radius') AND e.attempts > 0 AND e.wish->>'plan' <> $2"
           " AND (told.id IS NULL OR e.id >= told.id"
           // Older, but it may have left its sender later.
           "  OR (e.action = 'coa' AND e.status IN ('sent', 'unknown', 'superseded')"
           "   AND e.hard_deadline > told.planned_at))"
           " GROUP BY 1 ORDER BY max(e.id) DESC LIMIT $3",
           service_id, wish.at("plan").get<std::string>(), kMostFormerPlans)) {
    former.push_back(row[0].c_str());
  }
  if (!former.empty()) wish["former_plans"] = std::move(former);
  return wish;
}

nlohmann::json packet_wish(const v1::TransitionRequest& request, nlohmann::json wish,
                           const FormerNames& former, const Owed& owed) {
  if (request.renumber() || owed.renumber) wish["renumber"] = true;
  if (!request.keep_state() || request.plan_radius() != "disconnect") return wish;
  // The session that is to be spared may have missed something: then it is not.
  const bool owing = owed.cut || owed.renumber || owed.radius;
  if (request.spare_nas() && !owing) wish["spared_nas"] = wish.at("nas_ip");
  // Where accounting knows of no session, the one to look for is the former one.
  wish["session_username"] = former.username;
  wish["session_nas"] = former.nas_ip;
  return wish;
}

std::string object_action(const v1::TransitionRequest& request, const Row& row,
                          std::optional<State> before) {
  // One hold more, or one of several less, leaves the object as it is.
  if (changes_holds(request) && row.state == before) return {};
  if (request.plan_netbox() != "set_active") return request.plan_netbox();
  if (request.keep_state() && row.state == State::kAllocated) return {};  // reserved, as it is
  return row.state == State::kSuspended ? "suspend" : "set_active";
}

WantedEffects wanted_effects(const v1::TransitionRequest& request, State to,
                             const nlohmann::json& before, const nlohmann::json& wish,
                             const Owed& owed) {
  // A hold of one family changes nothing for a session that another one keeps as it is.
  const bool same = changes_holds(request) && request.step().empty() && before == wish;
  WantedEffects wanted;
  // What an older transition could not get done before this one came is still to be done.
  wanted.aaa = (request.plan_aaa() && !same) || owed.aaa;
  wanted.radius = same ? "" : request.plan_radius();
  const bool live = wish.at("condition") != "refused";
  if (wanted.radius.empty() && live && to != State::kAllocated && owed.radius)
    wanted.radius = "coa";
  if (request.step() == "restate" && live && wanted.radius.empty()) wanted.radius = "coa";
  if (request.step().empty() && owed.cut) wanted.radius = "disconnect";
  return wanted;
}

// Whether the last packet of this kind that a change of the living line planned has not been
// answered. A Disconnect does for any of them. What an undone change planned does not count,
// unless `undone_too`.
static bool left_owing(Tx& tx, std::int64_t service_id, const std::string& kind,
                       const std::string& undone_too, std::int64_t undone) {
  return tx
      .exec_params(
          "SELECT EXISTS (SELECT 1 FROM effects e JOIN operations o ON o.id = e.operation_id"
          " WHERE e.service_id = $1 AND e.system = 'radius' AND " +
              kind +
              " AND o.operation IN ('move', 'rebind', 'readdress')"
              " AND e.status NOT IN ('confirmed', 'not_applicable', 'abandoned')"
              " AND (" +
              undone_too +
              " OR (e.operation_id <> $2 AND coalesce(o.outcome->>'success', 'true') = 'true'))"
              " AND NOT EXISTS (SELECT 1 FROM effects n WHERE n.service_id = $1 AND n.id > e.id"
              "  AND n.system = 'radius' AND n.status IN ('confirmed', 'not_applicable',"
              "  'abandoned') AND (n.action = 'disconnect' OR (n.wish->>'renumber')::boolean"
              "   AND (e.wish->>'renumber')::boolean)))",
          service_id, undone)[0][0]
      .as<bool>();
}

// Of a row that is on its way out: whether the last Disconnect since then has not been answered.
// One that an undone operation planned counts for what it came to only.
static bool revoke_is_owed(Tx& tx, std::int64_t service_id, const Row& row, std::int64_t undone) {
  const auto cut = tx.exec_params(
      "SELECT e.status IN ('confirmed', 'not_applicable', 'abandoned') FROM effects e"
      " JOIN ip_reservations r ON r.id = $2 JOIN holdings h ON h.id = r.holding_id"
      " JOIN operations o ON o.id = e.operation_id WHERE e.service_id = $1"
      " AND e.action = 'disconnect' AND e.planned_at >= least(r.revoking_since, h.releasing_since)"
      " AND (e.status IN ('confirmed', 'not_applicable', 'abandoned')"
      "  OR (o.id <> $3 AND coalesce(o.outcome->>'success', 'true') = 'true'))"
      " ORDER BY e.id DESC LIMIT 1",
      service_id, row.id, undone);
  return !cut.empty() && !cut[0][0].as<bool>();
}

// Whether a revoke could not cut the session of space that the line has not taken up again since:
// it got other space, or, in a plan, is about to.
static bool left_uncut(Tx& tx, std::int64_t service_id, const std::vector<Row>& rows,
                       std::int64_t undone) {
  const auto leaving = tx.exec_params(
      "SELECT r.id, r.family, abbrev(r.ip_address), r.pool_id::text FROM ip_reservations r"
      " JOIN holdings h ON h.id = r.holding_id WHERE r.service_id = $1 AND upper_inf(h.period)"
      " AND h.releasing AND coalesce((SELECT o.operation FROM holdings n JOIN operations o"
      "  ON o.id = n.opened_by WHERE n.service_id = h.service_id AND n.family = h.family"
      "  AND n.id > h.id ORDER BY n.id LIMIT 1), 'allocate') = 'allocate'",
      service_id);
  for (const auto& found : leaving) {
    Row left;
    left.id = found[0].as<std::int64_t>();
    left.family = found[1].c_str();
    left.address = found[2].c_str();
    left.pool_id = found[3].c_str();
    const bool shown = std::ranges::any_of(rows, [&](const Row& row) {
      return row.family == left.family && row.address == left.address &&
             row.pool_id == left.pool_id;
    });
    if (!shown && revoke_is_owed(tx, service_id, left, undone)) return true;
  }
  return false;
}

bool cut_is_owed(Tx& tx, std::int64_t service_id, const std::vector<Row>& rows,
                 const std::vector<std::string>& moved, std::int64_t undone) {
  for (const Row& row : rows) {
    if (row.state != State::kRevoking || std::ranges::find(moved, row.family) != moved.end())
      continue;
    if (revoke_is_owed(tx, service_id, row, undone)) return true;
  }
  if (left_uncut(tx, service_id, rows, undone)) return true;
  return left_owing(tx, service_id, "e.action = 'disconnect'", "false", undone);
}

bool renumbering_is_owed(Tx& tx, std::int64_t service_id, std::int64_t undone) {
  // A session may have taken the space that an undone change sent it.
  return left_owing(tx, service_id, "(e.wish->>'renumber')::boolean",
                    "(e.attempts > 0 AND coalesce(e.reply->>'status', '') <> 'refused')", undone);
}

static bool has_uncut(Tx& tx, std::int64_t service_id, const v1::TransitionRequest& request) {
  return std::ranges::any_of(read_rows(tx, service_id), [&](const Row& row) {
    return row.state == State::kRevoking &&
           std::ranges::find(request.families(), row.family) != request.families().end() &&
           revoke_is_owed(tx, service_id, row, 0);
  });
}

v1::TransitionReply Ledger::transition(const v1::TransitionRequest& request) {
  const ServiceRef service = checked(request.claim().service());
  const auto to = domain::parse_state(request.state());
  if (!to) throw LedgerError{ErrorCode::kInvalidArgument, "state is not known: " + request.state()};
  const std::string step = "move:" + (request.step().empty() ? request.state() : request.step());
  return store_->as_tenant(service.tenant_id(), [&](Tx& tx) {
    // `revoked` and a restatement come from the background, when the operation has its answer.
    const Fence fence = request.step().empty() ? Fence::kOpenOperation : Fence::kNumberOnly;
    const Head head = fenced_head(tx, request.claim(), fence);
    const std::int64_t operation = request.claim().operation_id();
    if (auto recorded = recorded_step<v1::TransitionReply>(tx, operation, step)) return *recorded;
    v1::TransitionReply reply;
    // A family is `revoked` once its session is known to be cut, also where whoever settles it has
    // nothing left to wait for. Not on record: it may be asked again.
    if (request.step() == "revoked" && *to == State::kRevoked && has_uncut(tx, head.id, request)) {
      *reply.mutable_view() = read_view(tx, service);
      return reply;
    }
    if (request.step().starts_with("restate") && is_undone(tx, operation)) {
      // What it was to state is undone: the session is told what is.
      const auto packet = restate_undone(tx, service, head, operation, request.claim().number());
      if (packet.effect_id() != 0) *reply.mutable_radius() = packet;
      *reply.mutable_view() = read_view(tx, service);
    } else {
      reply = Moving{tx, request, head, *to}.run();
    }
    record_step(tx, service.tenant_id(), operation, step, reply);
    return reply;
  });
}

}  // namespace addrflow::ledger
