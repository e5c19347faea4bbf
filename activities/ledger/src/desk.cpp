// What operators look through: lines by what ails them, effects with their evidence, the
// composition of a line. Pages with a limit; nothing here changes a line.
#include <fmt/format.h>
#include <addrflow/domain/ids.hpp>
#include <addrflow/ledger/desk.hpp>
#include <charconv>

#include "rows.hpp"
#include "store.hpp"

namespace addrflow::ledger {
namespace {

constexpr int kUsualPage = 50;
constexpr int kLongestPage = 1'000;

// An effect that nobody has confirmed, given up or overtaken.
constexpr const char* kOpen = "('planned', 'sent', 'unknown', 'refused')";

int page_size(int limit) {
  if (limit < 0 || limit > kLongestPage)
    throw LedgerError{ErrorCode::kInvalidArgument,
                      fmt::format("limit must be 1 to {}", kLongestPage)};
  return limit == 0 ? kUsualPage : limit;
}

std::int64_t page_start(const std::string& after) {
  if (after.empty()) return 0;
  std::int64_t id = 0;
  const auto [end, error] = std::from_chars(after.data(), after.data() + after.size(), id);
  if (error != std::errc{} || end != after.data() + after.size())
    throw LedgerError{ErrorCode::kInvalidArgument, "after is no `next` of a page: " + after};
  return id;
}

std::int64_t age_limit(std::int64_t seconds) {
  if (seconds < 0) throw LedgerError{ErrorCode::kInvalidArgument, "older_than_s must be 0 or more"};
  return seconds;
}

std::string quoted_list(const google::protobuf::RepeatedPtrField<std::string>& words) {
  return fmt::format("{{{}}}", fmt::join(words, ","));
}

std::string utc(const std::string& column) {
  return "coalesce(to_char(" + column +
         R"( AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), ''))";
}

void check_words(const v1::ListRequest& request) {
  for (const std::string& state : request.states()) {
    if (!domain::parse_state(state))
      throw LedgerError{ErrorCode::kInvalidArgument, "states: there is no such state: " + state};
  }
  if (!request.tenant_id().empty()) {
    if (const auto ok = domain::check_id("tenant_id", request.tenant_id()); !ok)
      throw LedgerError{ErrorCode::kInvalidArgument, ok.error().message};
  }
}

v1::ListReply list_lines(Tx& tx, const v1::ListRequest& request) {
  const int limit = page_size(request.limit());
  const std::string since =
      "CASE r.lifecycle_state WHEN 'allocated' THEN r.lifecycle_allocated_at"
      " WHEN 'active' THEN r.lifecycle_activated_at WHEN 'suspended' THEN r.lifecycle_suspended_at"
      " WHEN 'revoking' THEN r.revoking_since WHEN 'revoked' THEN r.lifecycle_revoked_at"
      " ELSE r.updated_at END";
  const std::string open = fmt::format(
      "FROM effects e WHERE e.service_id = r.service_id AND e.status IN {}"
      " AND e.not_before <= clock_timestamp() AND (e.number = s.number OR e.system = 'netbox')",
      kOpen);
  const std::string sql =
      "SELECT r.id, r.tenant_id, r.subscriber_id, r.service, r.family, r.lifecycle_state::text,"
      " CASE WHEN r.family = 'ipv4' THEN host(r.ip_address) ELSE text(r.ip_address) END,"
      " p.pool_name, r.generation, " +
      utc("t.since") +
      ", coalesce(extract(epoch FROM clock_timestamp() - t.since), 0)::bigint, s.username,"
      " s.nas_ip, s.plan, (SELECT count(*) " +
      open + "), coalesce((SELECT e.code " + open +
      " ORDER BY e.id DESC LIMIT 1), ''), coalesce(upper_inf(h.period), false),"
      " coalesce(o.operation, '')"
      " FROM ip_reservations r JOIN services s ON s.id = r.service_id"
      " JOIN ip_pools p ON p.id = r.pool_id CROSS JOIN LATERAL (SELECT " +
      since +
      " AS since) t LEFT JOIN holdings h ON h.id = r.holding_id"
      " LEFT JOIN operations o ON o.id = s.open_operation_id"
      " WHERE r.id > $1 AND ($2 = '' OR r.tenant_id = $2)"
      " AND (cardinality($3::text[]) = 0 OR r.lifecycle_state::text = ANY ($3::text[]))"
      " AND ($4 = '' OR p.pool_name = $4 OR p.id::text = lower($4))"
      " AND ($5 = '' OR r.family = $5)"
      " AND ($6::bigint = 0 OR t.since < clock_timestamp() - $6::bigint * interval '1 second')"
      " AND (NOT $7::boolean OR EXISTS (SELECT 1 " +
      open +
      "))"
      " AND NOT EXISTS (SELECT 1 FROM ip_reservations n WHERE n.service_id = r.service_id"
      "   AND n.family = r.family AND n.slot = r.slot"
      "   AND (n.lifecycle_state <> 'revoked', n.generation, n.id)"
      "     > (r.lifecycle_state <> 'revoked', r.generation, r.id))"
      " ORDER BY r.id LIMIT $8";
  const auto found =
      tx.exec_params(sql, page_start(request.after()), request.tenant_id(),
                     quoted_list(request.states()), request.pool(), request.family(),
                     age_limit(request.older_than_s()), request.unconfirmed(), limit + 1);
  v1::ListReply reply;
  std::string last;
  for (const auto& row : found) {
    if (reply.entries_size() == limit) {
      reply.set_next(last);
      break;
    }
    last = row[0].c_str();
    v1::ListEntry& entry = *reply.add_entries();
    entry.mutable_service()->set_tenant_id(row[1].c_str());
    entry.mutable_service()->set_subscriber_id(row[2].c_str());
    entry.mutable_service()->set_service(row[3].c_str());
    entry.set_family(row[4].c_str());
    entry.set_state(row[5].c_str());
    entry.set_address(row[6].c_str());
    entry.set_pool(row[7].c_str());
    entry.set_generation(row[8].as<std::int64_t>());
    if (row[9].size() > 0) entry.set_since(row[9].c_str());
    entry.set_age_s(row[10].as<std::int64_t>());
    entry.set_username(row[11].c_str());
    entry.set_nas_ip(row[12].c_str());
    entry.set_plan(row[13].c_str());
    entry.set_unconfirmed(row[14].as<int>());
    entry.set_last_code(row[15].c_str());
    entry.set_space_held(row[16].as<bool>());
    entry.set_operation(row[17].c_str());
  }
  return reply;
}

const std::string& effect_columns() {
  static const std::string kColumns =
      "SELECT e.id, e.system, e.action, e.status, e.attempts, e.code, e.detail, " +
      utc("e.updated_at") +
      ", s.tenant_id, s.subscriber_id, s.service, e.number, e.number = s.number,"
      " coalesce(o.operation, ''), coalesce(o.key, ''), coalesce(o.actor, ''), e.object,"
      " e.wish::text, " +
      utc("e.planned_at") + ", " + utc("e.sent_at") + ", " + utc("e.hard_deadline") +
      " FROM effects e JOIN services s ON s.id = e.service_id"
      " LEFT JOIN operations o ON o.id = e.operation_id";
  return kColumns;
}

v1::EffectDetail read_detail(const pqxx::row& row) {
  v1::EffectDetail detail;
  *detail.mutable_effect() = read_effect(row);
  detail.mutable_service()->set_tenant_id(row[8].c_str());
  detail.mutable_service()->set_subscriber_id(row[9].c_str());
  detail.mutable_service()->set_service(row[10].c_str());
  detail.set_number(row[11].as<std::int64_t>());
  detail.set_current(row[12].as<bool>());
  detail.set_operation(row[13].c_str());
  detail.set_key(row[14].c_str());
  detail.set_actor(row[15].c_str());
  detail.set_object(row[16].c_str());
  detail.set_wish_json(row[17].c_str());
  if (row[18].size() > 0) detail.set_planned_at(row[18].c_str());
  if (row[19].size() > 0) detail.set_sent_at(row[19].c_str());
  if (row[20].size() > 0) detail.set_hard_deadline(row[20].c_str());
  return detail;
}

std::optional<v1::EffectDetail> find_effect(Tx& tx, std::int64_t id) {
  const auto found = tx.exec_params(effect_columns() + " WHERE e.id = $1", id);
  if (found.empty()) return std::nullopt;
  return read_detail(found[0]);
}

v1::EffectListReply list_effects(Tx& tx, const v1::EffectListRequest& request) {
  const int limit = page_size(request.limit());
  const std::string statuses = request.statuses().empty() ? "{planned,sent,unknown,refused}"
                                                          : quoted_list(request.statuses());
  const auto found = tx.exec_params(
      effect_columns() +
          " WHERE e.id > $1 AND ($2 = '' OR s.tenant_id = $2) AND ($3 = '' OR s.subscriber_id = $3)"
          " AND ($4 = '' OR s.service = $4) AND ($5 = '' OR e.system = $5)"
          " AND e.status = ANY ($6::text[]) AND ($7::bigint = 0"
          "   OR e.planned_at < clock_timestamp() - $7::bigint * interval '1 second')"
          " ORDER BY e.id LIMIT $8",
      request.after(), request.tenant_id(), request.subscriber_id(), request.service(),
      request.system(), statuses, age_limit(request.older_than_s()), limit + 1);
  v1::EffectListReply reply;
  for (const auto& row : found) {
    if (reply.effects_size() == limit) {
      reply.set_next(reply.effects(limit - 1).effect().effect_id());
      break;
    }
    *reply.add_effects() = read_detail(row);
  }
  return reply;
}

v1::EffectDetail give_up_on(Tx& tx, std::int64_t id, const std::string& actor,
                            const std::string& reason) {
  // The head before the effect, as everywhere: two orders of locks would meet in a deadlock.
  tx.exec_params(
      "SELECT 1 FROM services WHERE id = (SELECT service_id FROM effects WHERE id = $1) FOR UPDATE",
      id);
  tx.exec_params("SELECT 1 FROM effects WHERE id = $1 FOR UPDATE", id);
  const auto effect = find_effect(tx, id);
  if (!effect) throw LedgerError{ErrorCode::kNotFound, fmt::format("there is no effect {}", id)};
  const std::string& status = effect->effect().status();
  if (status == "abandoned") return *effect;
  if (status == "confirmed" || status == "not_applicable" || status == "superseded") {
    throw LedgerError{ErrorCode::kConflict,
                      fmt::format("effect {} is {}: there is nothing to abandon", id, status)};
  }
  tx.exec_params(
      "UPDATE effects SET status = 'abandoned', detail = $2, updated_at = clock_timestamp()"
      " WHERE id = $1",
      id, fmt::format("abandoned by {}: {}", actor, reason));
  write_audit(tx, effect->service(), "effect abandoned", actor, "", "", "ok",
              fmt::format("{} {}/{}: {}", id, effect->effect().system(), effect->effect().action(),
                          reason));
  return find_effect(tx, id).value();
}

}  // namespace

Desk::Desk(const Settings& settings) : store_(std::make_unique<Store>(settings)) {}
Desk::~Desk() = default;

v1::ListReply Desk::list(const v1::ListRequest& request) {
  check_words(request);
  const auto look = [&](Tx& tx) { return list_lines(tx, request); };
  return request.tenant_id().empty() ? store_->in_snapshot(look)
                                     : store_->as_tenant(request.tenant_id(), look);
}

v1::EffectListReply Desk::effects(const v1::EffectListRequest& request) {
  const auto look = [&](Tx& tx) { return list_effects(tx, request); };
  return request.tenant_id().empty() ? store_->in_snapshot(look)
                                     : store_->as_tenant(request.tenant_id(), look);
}

v1::EffectDetail Desk::effect(std::int64_t id) {
  const auto found = store_->in_snapshot([&](Tx& tx) { return find_effect(tx, id); });
  if (!found) throw LedgerError{ErrorCode::kNotFound, fmt::format("there is no effect {}", id)};
  return *found;
}

v1::EffectDetail Desk::abandon_effect(std::int64_t id, const std::string& actor,
                                      const std::string& reason) {
  if (actor.empty()) throw LedgerError{ErrorCode::kInvalidArgument, "actor is required"};
  if (reason.empty()) throw LedgerError{ErrorCode::kInvalidArgument, "reason is required"};
  return store_->as_owner([&](Tx& tx) { return give_up_on(tx, id, actor, reason); });
}

namespace {

std::optional<CompositionRef> newest(Store& store, const v1::ServiceRef& asked,
                                     const std::string& from) {
  const ServiceRef service = checked(asked);
  return store.as_tenant(service.tenant_id(), [&](Tx& tx) -> std::optional<CompositionRef> {
    const auto found =
        tx.exec_params("SELECT workflow_id, run_id, kind, phase FROM (" + from +
                           ") w WHERE tenant_id = $1 AND subscriber_id = $2 AND service = $3"
                           " ORDER BY phase = 'open' DESC, started_at DESC LIMIT 1",
                       service.tenant_id(), service.subscriber_id(), service.service());
    if (found.empty()) return std::nullopt;
    return CompositionRef{.workflow_id = found[0][0].c_str(),
                          .run_id = found[0][1].c_str(),
                          .kind = found[0][2].c_str(),
                          .open = std::string{found[0][3].c_str()} == "open"};
  });
}

constexpr const char* kCompositions =
    "SELECT tenant_id, subscriber_id, service, workflow_id, run_id, kind, phase, started_at"
    " FROM compositions";
// Operations that come without a composition around them.
constexpr const char* kChanges =
    " UNION ALL SELECT tenant_id, subscriber_id, service, workflow_id, run_id, operation, phase,"
    " started_at FROM operations WHERE workflow_id <> ''"
    " AND operation IN ('move', 'rebind', 'change_plan', 'readdress')";

}  // namespace

std::optional<CompositionRef> Desk::last_composition(const v1::ServiceRef& service) {
  return newest(*store_, service, kCompositions);
}

std::optional<CompositionRef> Desk::last_run(const v1::ServiceRef& service) {
  return newest(*store_, service, std::string{kCompositions} + kChanges);
}

}  // namespace addrflow::ledger
