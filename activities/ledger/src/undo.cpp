// Takes back what one operation created and changed, and nothing else.
#include <addrflow/ledger/ledger.hpp>

#include "rows.hpp"
#include "store.hpp"

namespace addrflow::ledger {
namespace {

void add_netbox(v1::UndoReply& reply, const v1::EffectRef& effect) {
  if (effect.effect_id() == 0) return;
  *(reply.has_netbox() ? reply.add_more() : reply.mutable_netbox()) = effect;
}

// Space that AAA never saw is free at once; space that it may have handed out goes through the
// gate. `family` empty: of every family.
void undo_created(Tx& tx, const ServiceRef& service, const Head& head, std::int64_t operation,
                  std::int64_t number, const std::string& family, v1::UndoReply& reply) {
  for (const auto& row : tx.exec_params(
           "SELECT r.id, r.holding_id, coalesce(h.exposed, false), r.family, r.generation"
           " FROM ip_reservations r LEFT JOIN holdings h ON h.id = r.holding_id"
           " WHERE r.service_id = $1 AND r.created_by_operation = $2"
           " AND r.lifecycle_state <> 'revoked' AND ($3 = '' OR r.family = $3)",
           head.id, operation, family)) {
    const auto id = row[0].as<std::int64_t>();
    const auto holding = row[1].as<std::int64_t>();
    const auto former = tx.exec_params(
        "SELECT o.id FROM ip_reservations o, operations op,"
        " jsonb_array_elements(op.before->'rows') b WHERE op.id = $1"
        " AND o.id = (b->>'id')::bigint AND o.family = $2 AND o.generation = $3 - 1"
        " AND o.holding_id IN (SELECT h.id FROM holdings h WHERE h.closed_by = $1"
        " AND h.evidence = 'taken up again')",
        operation, row[3].c_str(), row[4].as<std::int64_t>());
    const bool exposed = row[2].as<bool>();
    if (!exposed || !former.empty()) {
      add_netbox(reply, plan_netbox(tx, service, head.id, operation, number, id,
                                    former.empty() ? "release" : "deprecate"));
    }
    if (!former.empty()) {
      // Taken up again while it was on its way out: it goes on its way out again.
      tx.exec_params("DELETE FROM ip_reservations WHERE id = $1", id);
      tx.exec_params("UPDATE ip_reservations SET holding_id = $2 WHERE id = $1",
                     former[0][0].as<std::int64_t>(), holding);
      tx.exec_params(
          "UPDATE holdings SET releasing = true, releasing_since = clock_timestamp()"
          " WHERE id = $1 AND upper_inf(period)",
          holding);
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

void bring_back(Tx& tx, const Head& head, std::int64_t operation) {
  tx.exec_params(
      "UPDATE ip_reservations r SET lifecycle_state = (b->>'state')::lifecyclestate,"
      " lifecycle_activated_at = (b->>'activated')::timestamptz,"
      " lifecycle_suspended_at = (b->>'suspended')::timestamptz,"
      " lifecycle_revoked_at = (b->>'revoked')::timestamptz,"
      " revoking_since = (b->>'revoking')::timestamptz, updated_at = clock_timestamp()"
      " FROM operations o, jsonb_array_elements(o.before->'rows') b"
      " WHERE o.id = $1 AND r.id = (b->>'id')::bigint"
      // Space that went back to its pool does not come back.
      " AND ((b->>'state') = 'revoked' OR EXISTS (SELECT 1 FROM holdings h"
      "      WHERE h.id = r.holding_id AND upper_inf(h.period)))",
      operation);
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

}  // namespace

v1::UndoReply undo_operation(Tx& tx, const ServiceRef& service, const Head& head,
                             std::int64_t operation, std::int64_t number) {
  v1::UndoReply reply;
  undo_created(tx, service, head, operation, number, "", reply);
  bring_back(tx, head, operation);
  // What the operation wished of AAA and the session, if it may have left, is put right again.
  const bool told = !tx.exec_params(
                           "SELECT 1 FROM effects WHERE service_id = $1 AND operation_id = $2"
                           " AND system = 'radius' AND action = 'coa' AND attempts > 0"
                           " AND status IN ('sent', 'unknown', 'confirmed') LIMIT 1",
                           head.id, operation)
                         .empty();
  const auto touched = tx.exec_params(
      "SELECT count(*) FROM effects WHERE service_id = $1 AND operation_id = $2"
      " AND system = 'aaa' AND attempts > 0",
      head.id, operation);
  tx.exec_params(
      "UPDATE effects SET status = 'superseded', updated_at = clock_timestamp()"
      " WHERE service_id = $1 AND operation_id = $2 AND system IN ('aaa', 'radius')"
      " AND status IN ('planned', 'sent', 'unknown', 'refused')",
      head.id, operation);
  if (touched[0][0].as<int>() > 0 || owes(tx, head.id, "aaa")) {
    *reply.mutable_aaa() = plan_effect(tx, service, head.id, operation, number, "aaa", "apply", "",
                                       session_wish(tx, service, head.id));
  }
  const nlohmann::json wish = session_wish(tx, service, head.id);
  if (told && wish.at("condition") != "refused") {
    *reply.add_more() =
        plan_effect(tx, service, head.id, operation, number, "radius", "coa", "", wish);
  }
  // Space that was to leave stays with the line.
  for (const auto& row : tx.exec_params(
           "SELECT DISTINCT r.id, r.lifecycle_state = 'allocated' FROM effects e"
           " JOIN ip_reservations r ON r.netbox_key = e.object AND r.service_id = e.service_id"
           " WHERE e.operation_id = $1 AND e.system = 'netbox' AND e.action = 'deprecate'"
           " AND r.lifecycle_state IN ('allocated', 'active', 'suspended') ORDER BY r.id",
           operation)) {
    add_netbox(reply,
               plan_netbox(tx, service, head.id, operation, number, row[0].as<std::int64_t>(),
                           row[1].as<bool>() ? "set_reserved" : "set_active"));
  }
  // NetBox is told that the line is not active after all.
  for (const auto& row : tx.exec_params(
           "SELECT DISTINCT r.id FROM effects e JOIN ip_reservations r ON r.netbox_key = e.object"
           " AND r.service_id = e.service_id WHERE e.operation_id = $1 AND e.system = 'netbox'"
           " AND e.action = 'set_active' AND r.lifecycle_state = 'allocated' ORDER BY r.id",
           operation)) {
    add_netbox(reply, plan_netbox(tx, service, head.id, operation, number,
                                  row[0].as<std::int64_t>(), "set_reserved"));
  }
  return reply;
}

v1::UndoReply undo_family(Tx& tx, const ServiceRef& service, const Head& head,
                          std::int64_t operation, std::int64_t number, const std::string& family) {
  v1::UndoReply reply;
  undo_created(tx, service, head, operation, number, family, reply);
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
