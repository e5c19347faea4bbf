// The invariants, looked at from the ledger, and what AAA and NetBox hold beside it. Suspects are
// looked at twice: what an operation changes between two reads is no violation.
#include <fmt/format.h>
#include <addrflow/ledger/ledger.hpp>
#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <unordered_set>

#include "rows.hpp"
#include "store.hpp"

namespace addrflow::ledger {
namespace {

struct Check {
  const char* invariant;
  const char* what;
  const char* sql;  // tenant, what it is about, and its subscriber where there is one; `idle` are
                    // the services without an open operation
};

constexpr std::array kChecks{
    Check{"I1", "two open holdings overlap",
          "SELECT a.tenant_id, abbrev(a.space), a.subscriber_id FROM holdings a JOIN holdings b ON "
          "a.id < b.id"
          " AND a.routing_domain_id = b.routing_domain_id AND a.space && b.space"
          " AND a.ports && b.ports AND a.period && b.period"
          " WHERE upper_inf(a.period) AND upper_inf(b.period)"},
    Check{"I2", "an open holding has no working row",
          "SELECT h.tenant_id, abbrev(h.space), h.subscriber_id FROM holdings h JOIN idle ON "
          "idle.id = h.service_id"
          " WHERE upper_inf(h.period) AND (SELECT count(*) FROM ip_reservations r"
          "  WHERE r.holding_id = h.id AND (r.lifecycle_state <> 'revoked' OR h.releasing)) <> 1"},
    Check{
        "I2", "a live working row has no open holding",
        "SELECT r.tenant_id, abbrev(r.ip_address), r.subscriber_id FROM ip_reservations r JOIN idle"
        " ON idle.id = r.service_id LEFT JOIN holdings h ON h.id = r.holding_id"
        " AND upper_inf(h.period) WHERE r.lifecycle_state IN"
        " ('pending', 'allocated', 'active', 'suspended', 'revoking')"
        // A pending row that holds nothing is what the platform called released: free to allocate.
        " AND (r.lifecycle_state <> 'pending' OR r.holding_id IS NOT NULL)"
        " AND (h.id IS NULL OR h.space <> r.ip_address OR h.service_id <> r.service_id)"},
    Check{"I2", "the pool's row says held, no holding does",
          "SELECT p.tenant_id, host(a.address), '' FROM pool_addresses a JOIN ip_pools p"
          " ON p.id = a.pool_id LEFT JOIN holdings h ON h.pool_id = a.pool_id"
          " AND h.space = a.address AND upper_inf(h.period) WHERE a.state = 'held'"
          " AND h.id IS NULL"},
    Check{
        "I7", "the pool's row says free, a holding is open",
        "SELECT h.tenant_id, abbrev(h.space), h.subscriber_id FROM holdings h JOIN pool_addresses a"
        " ON a.pool_id = h.pool_id AND a.address = h.space WHERE upper_inf(h.period)"
        " AND a.state = 'free'"},
    Check{"I7", "exposed space came back without evidence",
          "SELECT h.tenant_id, abbrev(h.space), h.subscriber_id FROM holdings h WHERE NOT "
          "upper_inf(h.period)"
          " AND h.exposed AND h.evidence NOT IN ('strong', 'medium', 'hold_time', 'forced',"
          " 'taken up again', 'taken in NetBox', 'restored')"},
    // One session carries what all live families have, and is restricted as the service says.
    Check{"I3", "an effect of the last transition is missing",
          "SELECT r.tenant_id, r.subscriber_id, r.subscriber_id FROM ip_reservations r JOIN idle"
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
          "SELECT r.tenant_id, r.subscriber_id, r.subscriber_id FROM ip_reservations r JOIN idle"
          " ON idle.id = r.service_id WHERE r.lifecycle_state IN ('active', 'suspended')"
          " AND (r.lifecycle_state = 'suspended') <> EXISTS (SELECT 1 FROM holds"
          " WHERE holds.service_id = r.service_id AND holds.family = r.family)"},
    Check{"I2", "the profile does not say what the prefix's row says",
          "SELECT p.tenant_id, p.subscriber_id, p.subscriber_id FROM subscriber_network_profiles p"
          " JOIN services s ON (s.tenant_id, s.subscriber_id, s.service)"
          "   = (p.tenant_id, p.subscriber_id, 'internet') JOIN idle ON idle.id = s.id"
          " CROSS JOIN LATERAL (SELECT r.lifecycle_state, r.ip_address FROM ip_reservations r"
          "   WHERE r.service_id = s.id AND r.family = 'ipv6_pd' AND r.slot = 0"
          "   ORDER BY (r.lifecycle_state = 'revoked'), r.generation DESC, r.id DESC LIMIT 1) r"
          " WHERE p.ipv6_state::text <> r.lifecycle_state::text"
          "   OR p.ipv6_prefix::inet IS DISTINCT FROM CASE WHEN r.lifecycle_state <> 'revoked'"
          "     THEN r.ip_address END"},
    Check{"I6", "a pending binding without an operation",
          "SELECT r.tenant_id, r.subscriber_id, r.subscriber_id FROM ip_reservations r JOIN idle"
          " ON idle.id = r.service_id WHERE r.lifecycle_state = 'pending'"
          " AND r.holding_id IS NOT NULL"},
    Check{"I4", "one operation opened two holdings of a line",
          "SELECT h.tenant_id, abbrev(h.space), h.subscriber_id FROM holdings h"
          " WHERE upper_inf(h.period) AND EXISTS (SELECT 1 FROM holdings o"
          "  WHERE o.service_id = h.service_id AND upper_inf(o.period) AND o.family = h.family"
          "  AND o.slot = h.slot AND o.id <> h.id"
          // What a line had before its present space is on its way out.
          "  AND (o.opened_by = h.opened_by OR NOT (o.releasing OR h.releasing)))"},
    Check{"I5", "a finished operation has no outcome",
          "SELECT o.tenant_id, o.key, o.subscriber_id FROM operations o"
          " WHERE o.phase = 'finished' AND o.outcome IS NULL"},
    Check{"I5", "an open operation is not its service's",
          "SELECT o.tenant_id, o.key, o.subscriber_id FROM operations o WHERE o.phase = 'open'"
          " AND NOT EXISTS (SELECT 1 FROM services s WHERE s.open_operation_id = o.id)"},
    Check{"I5", "the ledger was restored and waits for its reconciliation",
          "SELECT '', detail, '' FROM ledger_guard WHERE restored"},
    Check{"I6", "a failed allocate left a live binding",
          "SELECT r.tenant_id, abbrev(r.ip_address), r.subscriber_id FROM ip_reservations r"
          " JOIN idle ON idle.id = r.service_id JOIN operations o ON o.id = r.created_by_operation"
          " WHERE r.lifecycle_state IN ('allocated', 'active', 'suspended')"
          " AND o.phase = 'finished' AND o.operation = 'allocate'"
          " AND o.outcome->>'success' = 'false'"
          " AND NOT EXISTS (SELECT 1 FROM operations l WHERE l.service_id = o.service_id"
          "  AND l.id > o.id)"},
    Check{"I8", "rows of one service belong to different tenants",
          "SELECT s.tenant_id, s.subscriber_id, s.subscriber_id FROM services s WHERE EXISTS "
          "(SELECT 1 FROM"
          " ip_reservations r WHERE r.service_id = s.id AND r.tenant_id <> s.tenant_id)"
          " OR EXISTS (SELECT 1 FROM holdings h WHERE h.service_id = s.id"
          " AND h.tenant_id <> s.tenant_id)"},
    Check{"I8", "space of a pool that the tenant may not use",
          "SELECT h.tenant_id, abbrev(h.space), h.subscriber_id FROM holdings h WHERE "
          "upper_inf(h.period)"
          " AND NOT EXISTS (SELECT 1 FROM pool_grants g WHERE g.pool_id = h.pool_id"
          " AND g.tenant_id = h.tenant_id)"},
};

constexpr int kPage = 1'000;

using Violation = AuditReport::Violation;

std::vector<std::string> texts_of(const pqxx::field& array) {
  std::vector<std::string> texts;
  pqxx::array_parser parser{array.c_str()};
  for (auto next = parser.get_next(); next.first != pqxx::array_parser::juncture::done;
       next = parser.get_next()) {
    if (next.first == pqxx::array_parser::juncture::string_value) texts.push_back(next.second);
  }
  return texts;
}

std::string joined(const std::vector<std::string>& texts) {
  return texts.empty() ? "no space" : fmt::format("{}", fmt::join(texts, " "));
}

// One look at everything; the violations it suspects, at most kMost.
class Look {
 public:
  Look(Store& store, const AuditPeers& peers, AuditReport& report)
      : store_(store), peers_(peers), report_(report) {}

  std::set<Violation> run() {
    look_at_ledger();
    at("aaa", peers_.aaa != nullptr, [this] {
      compare_lines();
      find_unknown_lines();
    });
    at("netbox", peers_.netbox != nullptr, [this] {
      compare_objects();
      find_missing_objects();
    });
    return std::move(suspects_);
  }

 private:
  void suspect(Violation violation) {
    if (suspects_.size() < AuditReport::kMost) {
      suspects_.insert(std::move(violation));
    } else {
      report_.truncated = true;
    }
  }

  // A system that cannot be reached leaves the others' verdicts as they are.
  template <class F>
  void at(const char* system, bool there, F look) {
    if (!there) return;
    try {
      look();
      report_.systems.emplace_back(system);
    } catch (const LedgerError&) {
      throw;
    } catch (const std::exception&) {
      // What a library says of a connection may hold its password.
      report_.out_of_reach.emplace_back(system);
    }
  }

  void look_at_ledger() {
    store_.in_snapshot([&](Tx& tx) {
      for (const Check& check : kChecks) {
        const std::string sql =
            "WITH idle AS (SELECT id FROM services WHERE open_operation_id IS NULL) ";
        const auto rows =
            tx.exec(fmt::format("{}{} LIMIT {}", sql, check.sql, AuditReport::kMost + 1));
        for (const auto& row : rows) {
          suspect({.invariant = check.invariant,
                   .tenant = row[0].c_str(),
                   .subscriber = row[2].c_str(),
                   .system = "ledger",
                   .what = std::string{check.what} + ": " + row[1].c_str()});
        }
      }
      const auto counted = tx.exec(
          "SELECT count(*), count(*) FILTER (WHERE open_operation_id IS NOT NULL) FROM services");
      report_.services = counted[0][0].as<std::int64_t>();
      report_.skipped = counted[0][1].as<std::int64_t>();
      return true;
    });
    report_.systems.emplace_back("ledger");
  }

  // What the ledger expects of a line in AAA.
  struct Expected {
    ports::ServiceName name;
    std::int64_t number = 0;
    std::string username;
    std::string condition;  // "never told"; "unconfirmed": the effect says where not
    std::string plan;       // as AAA was told last
    std::vector<std::string> spaces;

    // A line that nobody has given a plan keeps the group that somebody else gave it.
    bool is_plan(const std::string& group) const {
      return plan.empty() || group == plan || (plan == "default" && !group.empty());
    }
  };

  std::vector<Expected> expected_after(std::int64_t& id) {
    return store_.in_snapshot([&](Tx& tx) {
      std::vector<Expected> page;
      for (const auto& row : tx.exec_params(
               "SELECT s.id, s.tenant_id, s.subscriber_id, s.service, s.number,"
               " coalesce(nullif(s.username, ''), s.subscriber_id),"
               " coalesce((SELECT CASE e.status WHEN 'confirmed' THEN e.wish->>'condition'"
               "   ELSE 'unconfirmed' END FROM effects e WHERE e.service_id = s.id"
               "   AND e.system = 'aaa' ORDER BY e.id DESC LIMIT 1), 'never told'),"
               " ARRAY(SELECT abbrev(r.ip_address) FROM ip_reservations r"
               "   WHERE r.service_id = s.id"
               "   AND r.lifecycle_state IN ('allocated', 'active', 'suspended'))::text,"
               " coalesce((SELECT e.wish->>'plan' FROM effects e WHERE e.service_id = s.id"
               "   AND e.system = 'aaa' ORDER BY e.id DESC LIMIT 1), '')"
               " FROM services s WHERE s.id > $1 AND s.open_operation_id IS NULL"
               " ORDER BY s.id LIMIT $2",
               id, kPage)) {
        id = row[0].as<std::int64_t>();
        Expected& one = page.emplace_back();
        one.name = {row[1].c_str(), row[2].c_str(), row[3].c_str()};
        one.number = row[4].as<std::int64_t>();
        one.username = row[5].c_str();
        one.condition = row[6].c_str();
        one.spaces = texts_of(row[7]);
        one.plan = row[8].c_str();
        std::ranges::sort(one.spaces);
      }
      return page;
    });
  }

  void compare_lines() {
    std::int64_t id = 0;
    while (true) {
      const auto page = expected_after(id);
      if (page.empty()) return;
      std::vector<ports::ServiceName> names;
      for (const Expected& one : page) names.push_back(one.name);
      std::map<std::array<std::string, 3>, std::vector<ports::AaaLine>> lines;
      for (ports::AaaLine& line : peers_.aaa->lines_of(names))
        lines[{line.tenant, line.subscriber, line.service}].push_back(std::move(line));
      for (const Expected& one : page)
        compare(one, lines[{one.name.tenant, one.name.subscriber, one.name.service}]);
    }
  }

  void compare(const Expected& expected, const std::vector<ports::AaaLine>& lines) {
    const auto differs = [&](const char* invariant, std::string what, std::string wanted,
                             std::string found) {
      suspect({.invariant = invariant,
               .tenant = expected.name.tenant,
               .subscriber = expected.name.subscriber,
               .system = "aaa",
               .what = std::move(what),
               .expected = std::move(wanted),
               .found = std::move(found)});
    };
    bool seen = false;
    for (const ports::AaaLine& line : lines) {
      if (line.number > expected.number) {
        differs("I5", "AAA has seen a newer transition than the ledger",
                std::to_string(expected.number), std::to_string(line.number));
        return;
      }
      const bool own = line.username == expected.username;
      seen = seen || own;
      if (expected.condition == "unconfirmed") continue;
      if (expected.condition == "never told") {
        if (!line.spaces.empty())
          differs("I5", "AAA hands out what this ledger never gave", "none", joined(line.spaces));
        continue;
      }
      const bool refuse = !own || expected.condition == "refused";
      if (refuse) {
        if (!line.spaces.empty() || !line.refused)
          differs("I3", "AAA lets username " + line.username + " in", "refused",
                  (line.refused ? "refused, " : "") + joined(line.spaces));
        continue;
      }
      const bool restricted = expected.condition == "restricted";
      if (line.refused || line.restricted != restricted || line.spaces != expected.spaces ||
          !expected.is_plan(line.plan)) {
        differs("I3", "AAA's rows of username " + line.username + " are others",
                fmt::format("{}, plan {}, {}", expected.condition, expected.plan,
                            joined(expected.spaces)),
                fmt::format("{}, plan {}, {}",
                            line.refused      ? "refused"
                            : line.restricted ? "restricted"
                                              : "full",
                            line.plan.empty() ? "none" : line.plan, joined(line.spaces)));
      }
    }
    const bool wanted = expected.condition == "full" || expected.condition == "restricted";
    if (wanted && !seen)
      differs("I3", "AAA has no rows of username " + expected.username, expected.condition, "none");
  }

  // Lines that hand out space, of services that the ledger does not have.
  void find_unknown_lines() {
    std::string after;
    while (true) {
      const auto lines = peers_.aaa->lines_after(after, kPage);
      if (lines.empty()) return;
      after = lines.back().username;
      store_.in_snapshot([&](Tx& tx) {
        for (const ports::AaaLine& line : lines) {
          if (line.spaces.empty()) continue;
          const bool known = !tx.exec_params(
                                    "SELECT 1 FROM services WHERE tenant_id = $1 AND"
                                    " subscriber_id = $2 AND service = $3",
                                    line.tenant, line.subscriber, line.service)
                                  .empty();
          if (known) continue;
          suspect({.invariant = "I5",
                   .tenant = line.tenant,
                   .subscriber = line.subscriber,
                   .system = "aaa",
                   .what = "AAA hands out space to a line that the ledger does not know",
                   .expected = "none",
                   .found = joined(line.spaces)});
        }
        return true;
      });
    }
  }

  // What the ledger's newest effect on an object says of it.
  static std::string status_of(const std::string& action) {
    if (action == "reserve" || action == "take" || action == "set_reserved") return "reserved";
    if (action == "set_active" || action == "suspend") return "active";
    if (action == "deprecate") return "deprecated";
    return {};
  }

  // What a binding's object says of it, "active, suspended": of a line that lives by its state,
  // else by what NetBox was told last.
  static std::string shown(const std::string& action, const std::string& state) {
    if (state == "allocated") return "reserved, allocated";
    if (state == "active" || state == "suspended") return "active, " + state;
    const std::string status = status_of(action);
    if (status == "reserved") return "reserved, allocated";
    if (status == "active") return action == "suspend" ? "active, suspended" : "active, active";
    return status.empty() ? status : status + ", revoked";
  }

  void compare_objects() {
    std::string next;
    seen_.clear();
    do {
      const auto objects = peers_.netbox->page(next, kPage);
      store_.in_snapshot([&](Tx& tx) {
        for (const ports::NetboxObject& object : objects) compare(tx, object);
        return true;
      });
    } while (!next.empty());
  }

  void compare(Tx& tx, const ports::NetboxObject& object) {
    seen_.insert(object.id);
    const auto rows = tx.exec_params(
        "SELECT r.tenant_id, r.subscriber_id, abbrev(r.ip_address),"
        " s.open_operation_id IS NOT NULL, e.action, e.status,"
        // A request since has left NetBox alone: it shows what it was told last.
        " CASE WHEN EXISTS (SELECT 1 FROM operations o WHERE o.service_id = s.id"
        "  AND o.id > e.operation_id AND o.request->>'update_netbox' = 'false')"
        "  THEN '' ELSE r.lifecycle_state::text END,"
        // Whichever of the rows with this key: a line may have had the space before.
        " EXISTS (SELECT 1 FROM ip_reservations o JOIN holdings h ON h.id = o.holding_id"
        "  WHERE o.netbox_key = $1 AND upper_inf(h.period)), coalesce(d.netbox_vrf_id, 0)"
        " FROM ip_reservations r JOIN services s ON s.id = r.service_id"
        " JOIN ip_pools p ON p.id = r.pool_id JOIN routing_domains d ON d.id = p.routing_domain_id"
        " LEFT JOIN LATERAL (SELECT action, status, operation_id FROM effects e"
        "  WHERE e.service_id = s.id AND e.system = 'netbox' AND e.object = r.netbox_key ORDER BY "
        "e.id DESC LIMIT 1) e"
        "  ON true WHERE r.netbox_key = $1 AND r.netbox_key <> ''"
        " ORDER BY r.generation DESC, r.id DESC LIMIT 1",
        object.key);
    Violation violation{.invariant = "I3", .system = "netbox"};
    if (rows.empty()) {
      if (on_its_way_out(tx, object.key)) return;
      const auto slash = object.key.find('/');
      violation.tenant = object.key.substr(0, slash);
      violation.what = "NetBox has an object with our key that the ledger does not know";
      violation.expected = "none";
      violation.found = fmt::format("{} {} ({})", object.space, object.status, object.key);
      suspect(std::move(violation));
      return;
    }
    const auto& row = rows[0];
    if (row[3].as<bool>()) return;
    violation.tenant = row[0].c_str();
    violation.subscriber = row[1].c_str();
    const std::string action = row[4].c_str();
    const std::string status = row[5].c_str();
    violation.found = fmt::format("{} {}, {}{}", object.space, object.status,
                                  object.lifecycle_state, in_vrf(object.vrf_id));
    const bool shows_a_holder = object.status == "reserved" || object.status == "active";
    if (shows_a_holder && !row[7].as<bool>() && !is_left_or_leaving(action, status)) {
      violation.what =
          fmt::format("NetBox' object {} is of a line that holds nothing there", object.id);
      violation.expected = "none";
      suspect(std::move(violation));
      return;
    }
    if (status != "confirmed") return;
    const std::string wanted = action == "release" ? "gone" : shown(action, row[6].c_str());
    violation.expected =
        fmt::format("{} {}{}", row[2].c_str(), wanted, in_vrf(row[8].as<std::int64_t>()));
    violation.what = "NetBox' object " + std::to_string(object.id) + " is another";
    if (action == "release") {
      // Deleted after its quarantine; the effect is confirmed only then.
      suspect(std::move(violation));
    } else if (!wanted.empty() && violation.expected != violation.found) {
      suspect(std::move(violation));
    }
  }

  static std::string in_vrf(std::int64_t vrf_id) {
    return vrf_id == 0 ? "" : fmt::format(" in VRF {}", vrf_id);
  }

  // What the newest effect on an object says: it is to be deleted, or was left there as a request
  // wanted.
  static bool is_left_or_leaving(const std::string& action, const std::string& status) {
    if (status == "not_applicable") return true;
    return action == "release" &&
           (status == "planned" || status == "sent" || status == "unknown" || status == "refused");
  }

  // Taken or reserved by an operation that is under way or undone: its effect says so.
  static bool on_its_way_out(Tx& tx, const std::string& key) {
    return !tx.exec_params(
                  "SELECT 1 FROM services s JOIN LATERAL (SELECT action, status FROM effects e"
                  "  WHERE e.service_id = s.id AND e.system = 'netbox' AND e.object = $1"
                  "  ORDER BY e.id DESC LIMIT 1) e ON true"
                  " WHERE s.tenant_id = split_part($1, '/', 1)"
                  " AND s.subscriber_id = split_part($1, '/', 2)"
                  " AND s.service = split_part($1, '/', 3)"
                  " AND (s.open_operation_id IS NOT NULL OR e.action = 'release'"
                  "  AND e.status IN ('planned', 'sent', 'unknown', 'refused'))",
                  key)
                .empty();
  }

  void find_missing_objects() {
    std::int64_t id = 0;
    while (true) {
      const auto rows = store_.in_snapshot([&](Tx& tx) {
        return tx.exec_params(
            "SELECT r.id, r.tenant_id, r.subscriber_id, abbrev(r.ip_address), r.netbox_key,"
            " r.netbox_ip_id, coalesce((SELECT CASE WHEN e.status = 'confirmed' THEN e.action END"
            "  FROM effects e WHERE e.service_id = r.service_id AND e.system = 'netbox'"
            "  AND e.object = r.netbox_key ORDER BY e.id DESC LIMIT 1), '')"
            " FROM ip_reservations r JOIN services s ON s.id = r.service_id"
            " WHERE r.id > $1 AND r.netbox_ip_id IS NOT NULL AND r.netbox_key <> ''"
            " AND EXISTS (SELECT 1 FROM holdings h WHERE h.id = r.holding_id"
            "  AND upper_inf(h.period))"
            " AND s.open_operation_id IS NULL ORDER BY r.id LIMIT $2",
            id, kPage);
      });
      if (rows.empty()) return;
      for (const auto& row : rows) {
        id = row[0].as<std::int64_t>();
        const std::string status = status_of(row[6].c_str());
        if (status.empty() || status == "deprecated" || seen_.contains(row[5].as<std::int64_t>()))
          continue;
        if (!peers_.netbox->find(row[4].c_str()).empty()) continue;  // made after its page was read
        suspect({.invariant = "I3",
                 .tenant = row[1].c_str(),
                 .subscriber = row[2].c_str(),
                 .system = "netbox",
                 .what = std::string{"NetBox has no object of "} + row[3].c_str(),
                 .expected = status,
                 .found = "none"});
      }
    }
  }

  Store& store_;
  const AuditPeers& peers_;
  AuditReport& report_;
  std::set<Violation> suspects_;
  std::unordered_set<std::int64_t> seen_;  // NetBox ids
};

}  // namespace

AuditReport Ledger::audit(const AuditPeers& peers) {
  AuditReport report;
  try {
    const auto first = Look{*store_, peers, report}.run();
    if (!first.empty()) {
      AuditReport again;
      const auto second = Look{*store_, peers, again}.run();
      std::ranges::set_intersection(first, second, std::back_inserter(report.violations));
      for (const std::string& system : again.out_of_reach) {
        if (std::ranges::find(report.out_of_reach, system) == report.out_of_reach.end())
          report.out_of_reach.push_back(system);
      }
    }
    if (!report.violations.empty()) {
      report.result = AuditReport::Result::kViolated;
    } else if (!report.out_of_reach.empty()) {
      report.result = AuditReport::Result::kCouldNotCheck;
    }
    if (!report.out_of_reach.empty())
      report.why = fmt::format("cannot be reached: {}", fmt::join(report.out_of_reach, ", "));
  } catch (const LedgerError& error) {
    report.result = AuditReport::Result::kCouldNotCheck;
    report.violations.clear();
    report.why = error.what();
  }
  return report;
}

}  // namespace addrflow::ledger
