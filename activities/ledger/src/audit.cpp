// The invariants, looked at from the ledger. Suspects are looked at twice.
#include <addrflow/ledger/ledger.hpp>
#include <array>
#include <set>
#include <tuple>

#include "rows.hpp"
#include "store.hpp"

namespace addrflow::ledger {
namespace {

struct Check {
  const char* invariant;
  const char* what;
  const char* sql;  // tenant, what it is about; `idle` are the services without an open operation
};

constexpr std::array kChecks{
    Check{"I1", "two open holdings overlap",
          "SELECT a.tenant_id, abbrev(a.space) FROM holdings a JOIN holdings b ON a.id < b.id"
          " AND a.routing_domain_id = b.routing_domain_id AND a.space && b.space"
          " AND a.ports && b.ports AND a.period && b.period"
          " WHERE upper_inf(a.period) AND upper_inf(b.period)"},
    Check{"I2", "an open holding has no working row",
          "SELECT h.tenant_id, abbrev(h.space) FROM holdings h JOIN idle ON idle.id = h.service_id"
          " WHERE upper_inf(h.period) AND (SELECT count(*) FROM ip_reservations r"
          "  WHERE r.holding_id = h.id AND (r.lifecycle_state <> 'revoked' OR h.releasing)) <> 1"},
    Check{"I2", "a live working row has no open holding",
          "SELECT r.tenant_id, abbrev(r.ip_address) FROM ip_reservations r JOIN idle"
          " ON idle.id = r.service_id LEFT JOIN holdings h ON h.id = r.holding_id"
          " AND upper_inf(h.period) WHERE r.lifecycle_state IN"
          " ('pending', 'allocated', 'active', 'suspended', 'revoking')"
          " AND (h.id IS NULL OR h.space <> r.ip_address OR h.service_id <> r.service_id)"},
    Check{"I2", "the pool's row says held, no holding does",
          "SELECT p.tenant_id, host(a.address) FROM pool_addresses a JOIN ip_pools p"
          " ON p.id = a.pool_id LEFT JOIN holdings h ON h.pool_id = a.pool_id"
          " AND h.space = a.address AND upper_inf(h.period) WHERE a.state = 'held'"
          " AND h.id IS NULL"},
    Check{"I7", "the pool's row says free, a holding is open",
          "SELECT h.tenant_id, abbrev(h.space) FROM holdings h JOIN pool_addresses a"
          " ON a.pool_id = h.pool_id AND a.address = h.space WHERE upper_inf(h.period)"
          " AND a.state = 'free'"},
    Check{"I7", "exposed space came back without evidence",
          "SELECT h.tenant_id, abbrev(h.space) FROM holdings h WHERE NOT upper_inf(h.period)"
          " AND h.exposed AND h.evidence NOT IN ('strong', 'medium', 'hold_time', 'forced',"
          " 'taken up again', 'taken in NetBox')"},
    // One session carries what all live families have, and is restricted as the service says.
    Check{"I3", "an effect of the last transition is missing",
          "SELECT r.tenant_id, r.subscriber_id FROM ip_reservations r JOIN idle"
          " ON idle.id = r.service_id JOIN services s ON s.id = r.service_id"
          " CROSS JOIN LATERAL (SELECT bool_or(o.lifecycle_state = 'suspended') AS suspended,"
          "   bool_or(o.lifecycle_state = 'active') AS active FROM ip_reservations o"
          "   WHERE o.service_id = r.service_id) line"
          " CROSS JOIN LATERAL (SELECT e.wish FROM effects e WHERE e.service_id = r.service_id"
          "   AND e.system = 'aaa' AND e.status <> 'superseded' ORDER BY e.id DESC LIMIT 1) last"
          " WHERE r.lifecycle_state IN ('allocated', 'active', 'suspended') AND ("
          "   last.wish->>'condition' <> CASE WHEN line.suspended AND NOT (line.active"
          "     AND s.restrict_when = 'all') THEN 'restricted' ELSE 'full' END"
          "   OR coalesce(last.wish->>CASE r.family WHEN 'ipv4' THEN 'framed_ip'"
          "     ELSE 'delegated_prefix' END, '') <> abbrev(r.ip_address))"},
    Check{"I3", "suspended without a hold, or active with one",
          "SELECT r.tenant_id, r.subscriber_id FROM ip_reservations r JOIN idle"
          " ON idle.id = r.service_id WHERE r.lifecycle_state IN ('active', 'suspended')"
          " AND (r.lifecycle_state = 'suspended') <> EXISTS (SELECT 1 FROM holds"
          " WHERE holds.service_id = r.service_id AND holds.family = r.family)"},
    Check{"I2", "the profile does not say what the prefix's row says",
          "SELECT p.tenant_id, p.subscriber_id FROM subscriber_network_profiles p"
          " JOIN services s ON (s.tenant_id, s.subscriber_id, s.service)"
          "   = (p.tenant_id, p.subscriber_id, 'internet') JOIN idle ON idle.id = s.id"
          " CROSS JOIN LATERAL (SELECT r.lifecycle_state, r.ip_address FROM ip_reservations r"
          "   WHERE r.service_id = s.id AND r.family = 'ipv6_pd' AND r.slot = 0"
          "   ORDER BY r.generation DESC, r.id DESC LIMIT 1) r"
          " WHERE p.ipv6_state::text <> r.lifecycle_state::text"
          "   OR p.ipv6_prefix::inet IS DISTINCT FROM CASE WHEN r.lifecycle_state <> 'revoked'"
          "     THEN r.ip_address END"},
    Check{"I6", "a pending binding without an operation",
          "SELECT r.tenant_id, r.subscriber_id FROM ip_reservations r JOIN idle"
          " ON idle.id = r.service_id WHERE r.lifecycle_state = 'pending'"},
    Check{"I8", "rows of one service belong to different tenants",
          "SELECT s.tenant_id, s.subscriber_id FROM services s WHERE EXISTS (SELECT 1 FROM"
          " ip_reservations r WHERE r.service_id = s.id AND r.tenant_id <> s.tenant_id)"
          " OR EXISTS (SELECT 1 FROM holdings h WHERE h.service_id = s.id"
          " AND h.tenant_id <> s.tenant_id)"},
    Check{"I8", "space of a pool that the tenant may not use",
          "SELECT h.tenant_id, abbrev(h.space) FROM holdings h WHERE upper_inf(h.period)"
          " AND NOT EXISTS (SELECT 1 FROM pool_grants g WHERE g.pool_id = h.pool_id"
          " AND g.tenant_id = h.tenant_id)"},
};

using Suspect = std::tuple<std::string, std::string, std::string>;

std::set<Suspect> look(Tx& tx, AuditReport& report) {
  std::set<Suspect> suspects;
  for (const Check& check : kChecks) {
    const std::string sql =
        "WITH idle AS (SELECT id FROM services WHERE open_operation_id IS NULL) ";
    for (const auto& row : tx.exec(sql + check.sql)) {
      suspects.emplace(check.invariant, row[0].c_str(),
                       std::string{check.what} + ": " + row[1].c_str());
    }
  }
  const auto counted = tx.exec(
      "SELECT count(*), count(*) FILTER (WHERE open_operation_id IS NOT NULL) FROM services");
  report.services = counted[0][0].as<std::int64_t>();
  report.skipped = counted[0][1].as<std::int64_t>();
  return suspects;
}

}  // namespace

AuditReport Ledger::audit() {
  AuditReport report;
  try {
    const auto first = store_->in_snapshot([&](Tx& tx) { return look(tx, report); });
    if (first.empty()) return report;
    const auto second = store_->in_snapshot([&](Tx& tx) { return look(tx, report); });
    for (const Suspect& suspect : first) {
      if (!second.contains(suspect)) continue;
      const auto& [invariant, tenant, what] = suspect;
      report.violations.push_back({invariant, tenant, what});
    }
    if (!report.violations.empty()) report.result = AuditReport::Result::kViolated;
  } catch (const LedgerError& error) {
    report.result = AuditReport::Result::kCouldNotCheck;
    report.why = error.what();
  }
  return report;
}

}  // namespace addrflow::ledger
