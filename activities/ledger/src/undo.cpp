// Takes back what one operation created and changed, and nothing else.
#include <addrflow/ledger/ledger.hpp>
#include <algorithm>

#include "rows.hpp"
#include "store.hpp"

namespace addrflow::ledger {
namespace {

void add_netbox(v1::UndoReply& reply, const v1::EffectRef& effect) {
  if (effect.effect_id() == 0) return;
  *(reply.has_netbox() ? reply.add_more() : reply.mutable_netbox()) = effect;
}

bool has_touched_aaa(Tx& tx, const Head& head, std::int64_t operation) {
  return tx
      .exec_params(
          "SELECT EXISTS (SELECT 1 FROM effects WHERE service_id = $1 AND operation_id = $2"
          " AND system = 'aaa' AND attempts > 0)",
          head.id, operation)[0][0]
      .as<bool>();
}

// The chapter that the operation closed to take this space up again: its row and its holding.
struct Former {
  std::int64_t row = 0;
  std::int64_t holding = 0;
};

std::optional<Former> former_of(Tx& tx, std::int64_t operation, std::int64_t holding) {
  const auto found = tx.exec_params(
      "SELECT o.id, h.id FROM holdings n JOIN holdings h ON h.closed_by = $1"
      " AND h.evidence = 'taken up again' AND h.service_id = n.service_id"
      " AND h.family = n.family AND h.space = n.space AND h.pool_id = n.pool_id"
      " JOIN ip_reservations o ON o.holding_id = h.id WHERE n.id = $2 ORDER BY h.id LIMIT 1",
      operation, holding);
  if (found.empty()) return std::nullopt;
  return Former{.row = found[0][0].as<std::int64_t>(), .holding = found[0][1].as<std::int64_t>()};
}

// It goes on its way out again. What AAA and the NAS have confirmed of it holds, and so does a
// person's word, unless AAA may have handed the space out since.
void go_on_leaving(Tx& tx, const Former& former, std::int64_t holding, bool touched) {
  tx.exec_params("UPDATE ip_reservations SET holding_id = $2 WHERE id = $1", former.row, holding);
  tx.exec_params(
      "UPDATE holdings h SET releasing = true, kept = f.kept, forced = f.forced AND NOT $3,"
      " releasing_since = CASE WHEN $3 THEN clock_timestamp()"
      "   ELSE coalesce(f.releasing_since, clock_timestamp()) END"
      " FROM holdings f WHERE h.id = $1 AND f.id = $2 AND upper_inf(h.period)",
      holding, former.holding, touched);
}

// What NetBox was asked to pick and no row has: it may have picked all the same, or do so yet. The
// release is the newer wish under that key, so a late request for it is not sent.
void undo_taken(Tx& tx, const ServiceRef& service, const Head& head, std::int64_t operation,
                std::int64_t number, const std::string& family, v1::UndoReply& reply) {
  for (const auto& row : tx.exec_params(
           "SELECT e.object, e.wish::text FROM effects e WHERE e.service_id = $1"
           " AND e.operation_id = $2 AND e.system = 'netbox' AND e.action = 'take'"
           " AND e.attempts > 0 AND ($3 = '' OR e.wish->>'family' = $3)"
           " AND NOT EXISTS (SELECT 1 FROM effects n WHERE n.service_id = e.service_id"
           "  AND n.system = 'netbox' AND n.object = e.object AND n.id > e.id)"
           " AND NOT EXISTS (SELECT 1 FROM ip_reservations r WHERE r.service_id = e.service_id"
           "  AND r.netbox_key = e.object) ORDER BY e.id",
           head.id, operation, family)) {
    add_netbox(reply, plan_effect(tx, service, head.id, operation, number, "netbox", "release",
                                  row[0].c_str(), nlohmann::json::parse(row[1].c_str())));
  }
  tx.exec_params(
      "UPDATE effects SET status = 'superseded', updated_at = clock_timestamp()"
      " WHERE service_id = $1 AND operation_id = $2 AND system = 'netbox' AND action = 'take'"
      " AND ($3 = '' OR wish->>'family' = $3) AND status IN ('planned', 'refused')",
      head.id, operation, family);
}

// Space that AAA never saw is free at once; space that it may have handed out goes through the
// gate. `family` empty: of every family. True when some of it had been taken up again.
bool undo_created(Tx& tx, const ServiceRef& service, const Head& head, std::int64_t operation,
                  std::int64_t number, const std::string& family, v1::UndoReply& reply) {
  const bool touched = has_touched_aaa(tx, head, operation);
  bool taken_up = false;
  for (const auto& row :
       tx.exec_params("SELECT r.id, r.holding_id, coalesce(h.exposed, false)"
                      " FROM ip_reservations r LEFT JOIN holdings h ON h.id = r.holding_id"
                      " WHERE r.service_id = $1 AND r.created_by_operation = $2"
                      " AND r.lifecycle_state <> 'revoked' AND ($3 = '' OR r.family = $3)",
                      head.id, operation, family)) {
    const auto id = row[0].as<std::int64_t>();
    const auto holding = row[1].as<std::int64_t>();
    const auto former = former_of(tx, operation, holding);
    const bool exposed = row[2].as<bool>();
    if (!exposed || former) {
      add_netbox(reply, plan_netbox(tx, service, head.id, operation, number, id,
                                    former ? "deprecate" : "release"));
    }
    if (former) {
      tx.exec_params("DELETE FROM ip_reservations WHERE id = $1", id);
      go_on_leaving(tx, *former, holding, touched);
      taken_up = true;
    } else if (exposed) {
      tx.exec_params(
          "UPDATE ip_reservations SET lifecycle_state = 'revoked',"
          " lifecycle_revoked_at = clock_timestamp(), updated_at = clock_timestamp() WHERE id = $1",
          id);
      tx.exec_params(
          "UPDATE holdings SET releasing = true, releasing_since = clock_timestamp()"
          " WHERE id = $1 AND upper_inf(period)",
          holding);
      add_netbox(reply, plan_netbox(tx, service, head.id, operation, number, id, "deprecate"));
    } else {
      close_holding(tx, holding, operation, "undone before AAA saw it", 0);
      tx.exec_params("DELETE FROM ip_reservations WHERE id = $1", id);
    }
  }
  return taken_up;
}

// The username that is given up again stays known as a former one, unless AAA never let it in: one
// that AAA refuses must not become the line's.
void keep_username(Tx& tx, std::int64_t operation) {
  const bool let_in = !tx.exec_params(
                             "SELECT 1 FROM effects WHERE operation_id = $1 AND system = 'aaa'"
                             " AND attempts > 0 AND NOT (status = 'refused' AND (attempts = 1"
                             " OR NOT coalesce((reply->>'retry')::boolean, false))) LIMIT 1",
                             operation)
                           .empty();
  if (!let_in) {
    tx.exec_params(
        "UPDATE services s SET former_usernames ="
        " ARRAY(SELECT jsonb_array_elements_text(o.before->'former_usernames')) FROM operations o"
        " WHERE o.id = $1 AND s.id = o.service_id AND o.before ? 'former_usernames'",
        operation);
    return;
  }
  tx.exec_params(
      "WITH renamed AS (UPDATE services s SET former_usernames ="
      "  array_append(array_remove(array_remove(s.former_usernames, o.before->>'username'),"
      "  s.username), s.username) FROM operations o WHERE o.id = $1 AND s.id = o.service_id"
      "  AND o.before->>'username' NOT IN ('', s.username) RETURNING s.username)"
      " UPDATE operations SET before = before || jsonb_build_object('left', username)"
      " FROM renamed WHERE id = $1",
      operation);
}

// `family` empty: the rows of every family.
void bring_rows_back(Tx& tx, std::int64_t operation, const std::string& family) {
  tx.exec_params(
      "UPDATE ip_reservations r SET lifecycle_state = (b->>'state')::lifecyclestate,"
      " lifecycle_activated_at = (b->>'activated')::timestamptz,"
      " lifecycle_suspended_at = (b->>'suspended')::timestamptz,"
      " lifecycle_revoked_at = (b->>'revoked')::timestamptz,"
      " revoking_since = (b->>'revoking')::timestamptz, updated_at = clock_timestamp()"
      " FROM operations o, jsonb_array_elements(o.before->'rows') b"
      " WHERE o.id = $1 AND r.id = (b->>'id')::bigint AND ($2 = '' OR r.family = $2)"
      // Space that went back to its pool does not come back.
      " AND ((b->>'state') = 'revoked' OR EXISTS (SELECT 1 FROM holdings h"
      "      WHERE h.id = r.holding_id AND upper_inf(h.period)))",
      operation, family);
  tx.exec_params(
      "UPDATE holdings h SET kept = true"
      " FROM operations o, jsonb_array_elements(o.before->'rows') b, ip_reservations r"
      " WHERE o.id = $1 AND (b->>'kept')::boolean AND r.id = (b->>'id')::bigint"
      " AND ($2 = '' OR r.family = $2) AND h.id = r.holding_id AND upper_inf(h.period)"
      " AND h.releasing AND NOT h.forced",
      operation, family);
}

void bring_back(Tx& tx, const Head& head, std::int64_t operation) {
  bring_rows_back(tx, operation, "");
  tx.exec_params(
      "UPDATE holdings h SET releasing = false, releasing_since = NULL, kept = false"
      " FROM ip_reservations r WHERE r.service_id = $1 AND r.holding_id = h.id"
      " AND upper_inf(h.period) AND h.releasing"
      " AND r.lifecycle_state NOT IN ('revoking', 'revoked')",
      head.id);
  tx.exec_params("DELETE FROM holds WHERE service_id = $1", head.id);
  tx.exec_params(
      "INSERT INTO holds (service_id, tenant_id, family, reason, actor, since)"
      " SELECT o.service_id, o.tenant_id, coalesce(b->>'family', 'ipv4'), b->>'reason',"
      " b->>'actor', (b->>'since')::timestamptz"
      " FROM operations o, jsonb_array_elements(o.before->'holds') b WHERE o.id = $1",
      operation);
  keep_username(tx, operation);
  tx.exec_params(
      "UPDATE services s SET"
      " username = CASE WHEN o.before->>'username' = '' THEN s.username"
      " ELSE o.before->>'username' END,"
      " nas_ip = o.before->>'nas_ip', plan = o.before->>'plan',"
      " restrict_when = coalesce(o.before->>'restrict_when', s.restrict_when) FROM operations o"
      " WHERE o.id = $1 AND s.id = o.service_id",
      operation);
}

// What a packet of the operation may have told the session.
struct Told {
  bool any = false;
  bool renumber = false;
};

Told read_told(Tx& tx, const Head& head, std::int64_t operation) {
  const auto told = tx.exec_params(
      "SELECT count(*) > 0, coalesce(bool_or((wish->>'renumber')::boolean), false) FROM effects"
      " WHERE service_id = $1 AND operation_id = $2 AND system = 'radius' AND attempts > 0"
      " AND (action = 'coa' OR (wish->>'renumber')::boolean)"
      " AND status IN ('sent', 'unknown', 'confirmed')",
      head.id, operation);
  return {.any = told[0][0].as<bool>(), .renumber = told[0][1].as<bool>()};
}

// The packet for the session as it is without the operation. Beside what the operation told it,
// there is what the claim superseded of older ones: it is owed still.
v1::EffectRef plan_packet(Tx& tx, const ServiceRef& service, const Head& head,
                          std::int64_t operation, std::int64_t number, const Told& told, bool owed,
                          bool cut) {
  const auto rows = read_rows(tx, head.id);
  nlohmann::json wish = with_plans_left(tx, head.id, session_wish(tx, service, head.id));
  const bool live = wish.at("condition") != "refused";
  const bool renumber = told.renumber || renumbering_is_owed(tx, head.id, operation);
  if (live && renumber) wish["renumber"] = true;
  if (cut || cut_is_owed(tx, head.id, rows, {}, operation)) {
    return plan_effect(tx, service, head.id, operation, number, "radius", "disconnect", "", wish);
  }
  const bool has_session = std::ranges::any_of(rows, [](const Row& row) {
    return row.state == State::kActive || row.state == State::kSuspended;
  });
  if (!live || (!told.any && !(has_session && (owed || renumber)))) return {};
  return plan_effect(tx, service, head.id, operation, number, "radius", "coa", "", wish);
}

// What NetBox is told of space that stays with the line.
std::string stays_as(const std::string& state) {
  if (state == "allocated") return "set_reserved";
  return state == "suspended" ? "suspend" : "set_active";
}

}  // namespace

v1::UndoReply undo_operation(Tx& tx, const ServiceRef& service, const Head& head,
                             std::int64_t operation, std::int64_t number) {
  v1::UndoReply reply;
  undo_taken(tx, service, head, operation, number, "", reply);
  const bool taken_up = undo_created(tx, service, head, operation, number, "", reply);
  bring_back(tx, head, operation);
  // What the operation wished of AAA and the session, if it may have left, is put right again.
  const Told told = read_told(tx, head, operation);
  const bool touched = has_touched_aaa(tx, head, operation);
  const bool owed = owes(tx, head.id, "radius");  // before its own packets are superseded as well
  // What never left told nobody anything: nothing is owed on its account.
  tx.exec_params(
      "UPDATE effects SET status = 'superseded', updated_at = clock_timestamp(),"
      " code = CASE WHEN attempts = 0 THEN 'never-left' ELSE code END"
      " WHERE service_id = $1 AND operation_id = $2 AND system IN ('aaa', 'radius')"
      " AND status IN ('planned', 'sent', 'unknown', 'refused')",
      head.id, operation);
  const nlohmann::json wish = session_wish(tx, service, head.id);
  if (touched || owes(tx, head.id, "aaa")) {
    *reply.mutable_aaa() =
        plan_effect(tx, service, head.id, operation, number, "aaa", "apply", "", wish);
  }
  // A login may have got the space that was to be had again for a moment.
  const bool cut = taken_up && touched && wish.at("condition") == "refused";
  const auto packet = plan_packet(tx, service, head, operation, number, told, owed, cut);
  if (packet.effect_id() != 0) *reply.add_more() = packet;
  if (const auto late = late_packet_ms(tx, head.id, number + 1, "{superseded}");
      late && wish.at("condition") != "refused") {
    reply.set_restate(true);
    reply.set_restate_after_ms(*late);
  }
  // Of space that stays with the line NetBox is told what it is after all.
  for (const auto& row : tx.exec_params(
           "SELECT DISTINCT ON (r.id) r.id, r.lifecycle_state::text, e.action FROM effects e"
           " JOIN ip_reservations r ON r.netbox_key = e.object AND r.service_id = e.service_id"
           " WHERE e.operation_id = $1 AND e.system = 'netbox'"
           " AND e.action IN ('deprecate', 'set_reserved', 'set_active', 'suspend')"
           " AND r.lifecycle_state IN ('allocated', 'active', 'suspended') ORDER BY r.id, e.id "
           "DESC",
           operation)) {
    const std::string action = stays_as(row[1].c_str());
    if (action == row[2].c_str()) continue;
    add_netbox(reply, plan_netbox(tx, service, head.id, operation, number,
                                  row[0].as<std::int64_t>(), action));
  }
  return reply;
}

bool is_undone(Tx& tx, std::int64_t operation) {
  return !tx.exec_params("SELECT 1 FROM operation_steps WHERE operation_id = $1 AND step = 'undo'",
                         operation)
              .empty();
}

v1::EffectRef restate_undone(Tx& tx, const ServiceRef& service, const Head& head,
                             std::int64_t operation, std::int64_t number) {
  return plan_packet(tx, service, head, operation, number, {.any = true}, true, false);
}

v1::UndoReply undo_family(Tx& tx, const ServiceRef& service, const Head& head,
                          std::int64_t operation, std::int64_t number, const std::string& family) {
  v1::UndoReply reply;
  undo_taken(tx, service, head, operation, number, family, reply);
  undo_created(tx, service, head, operation, number, family, reply);
  bring_rows_back(tx, operation, family);
  tx.exec_params("UPDATE operations SET families = array_remove(families, $2) WHERE id = $1",
                 operation, family);
  return reply;
}

v1::UndoReply Ledger::undo(const v1::UndoRequest& request) {
  const ServiceRef service = checked(request.claim().service());
  const std::int64_t operation = request.claim().operation_id();
  return store_->as_tenant(service.tenant_id(), [&](Tx& tx) {
    const Head head = fenced_head(tx, request.claim());
    const std::string& family = request.family();
    const std::string step = family.empty() ? "undo" : "undo:" + family;
    if (auto recorded = recorded_step<v1::UndoReply>(tx, operation, step)) return *recorded;
    const std::int64_t number = request.claim().number();
    v1::UndoReply reply = family.empty()
                              ? undo_operation(tx, service, head, operation, number)
                              : undo_family(tx, service, head, operation, number, family);
    *reply.mutable_view() = read_view(tx, service);
    write_audit(tx, service, family.empty() ? "undone" : "undone for " + family, "", "", "",
                request.code(), request.reason());
    record_step(tx, service.tenant_id(), operation, step, reply);
    return reply;
  });
}

}  // namespace addrflow::ledger
