// What a pool is set to: the rules for it, and what people change of it later
// (docs/decisions/0034).
#include "pools.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <addrflow/domain/ids.hpp>
#include <addrflow/domain/ipv4.hpp>
#include <addrflow/domain/ipv6.hpp>
#include <algorithm>

#include "store.hpp"

namespace addrflow::ledger {
namespace {

[[noreturn]] void refuse(const std::string& message) {
  throw LedgerError{ErrorCode::kInvalidArgument, message};
}

[[noreturn]] void conflict(const std::string& message) {
  throw LedgerError{ErrorCode::kConflict, message};
}

bool names_nothing(const PoolSettings& wanted) {
  return !wanted.quarantine && !wanted.hold_time && !wanted.group && !wanted.priority &&
         !wanted.nas_ips && !wanted.netbox_mode && !wanted.netbox_vrf_id && wanted.grant.empty() &&
         wanted.revoke_grant.empty() && !wanted.netbox_start_now;
}

void check_settings(const PoolSettings& wanted, const Settings& settings) {
  if (names_nothing(wanted)) refuse("nothing that is to be changed is named");
  if (wanted.group) check_group(*wanted.group);
  if (wanted.nas_ips) check_nas_ips(*wanted.nas_ips);
  if (wanted.netbox_mode) check_netbox_mode(*wanted.netbox_mode);
  check_times(wanted.quarantine.value_or(std::chrono::seconds{0}),
              wanted.hold_time.value_or(kDefaultHold));
  if (wanted.hold_time) must_outlive_sessions(*wanted.hold_time, settings);
  if (wanted.netbox_vrf_id.value_or(0) < 0) refuse("vrf must be NetBox's number of it");
  for (const std::string& tenant : wanted.revoke_grant) {
    if (std::ranges::find(wanted.grant, tenant) != wanted.grant.end())
      refuse("revoke_grant: granted by the same request: " + tenant);
  }
}

// In one transaction, with the pool's row locked.
class Setting {
 public:
  Setting(Tx& tx, const KnownPool& pool, const PoolSettings& wanted)
      : tx_(tx), pool_(pool), wanted_(wanted), there_(read(tx, pool.id)) {}

  std::vector<std::string> run() {
    if (wanted_.quarantine) set("quarantine", "quarantine_s", number(*wanted_.quarantine));
    if (wanted_.hold_time) set("hold_time", "hold_time_s", number(*wanted_.hold_time));
    if (wanted_.group) set("group", "pool_group", *wanted_.group);
    if (wanted_.priority) set("priority", "priority", std::to_string(*wanted_.priority));
    for (const std::string& tenant : wanted_.grant) grant(tenant);
    for (const std::string& tenant : wanted_.revoke_grant) revoke_grant(tenant);
    if (wanted_.nas_ips) set_nas(*wanted_.nas_ips);
    if (wanted_.netbox_vrf_id) set_vrf(*wanted_.netbox_vrf_id);
    if (wanted_.netbox_mode) set_mode(*wanted_.netbox_mode);
    if (wanted_.netbox_start_now) start();
    return std::move(changes_);
  }

 private:
  static pqxx::result read(Tx& tx, const std::string& id) {
    return tx.exec_params(
        "SELECT p.quarantine_s, p.hold_time_s, p.pool_group, p.priority, p.netbox_mode,"
        " p.routing_domain_id, d.name AS domain FROM ip_pools p"
        " JOIN routing_domains d ON d.id = p.routing_domain_id WHERE p.id = $1::uuid",
        id);
  }

  static std::string number(std::chrono::seconds duration) {
    return std::to_string(duration.count());
  }

  void changed(const char* field, const std::string& from, const std::string& to) {
    changes_.push_back(
        fmt::format("{}: {} -> {}", field, from.empty() ? "none" : from, to.empty() ? "none" : to));
  }

  void set(const char* field, const char* column, const std::string& wanted) {
    const std::string there = there_[0][column].c_str();
    if (there == wanted) return;
    tx_.exec_params(fmt::format("UPDATE ip_pools SET {} = $2, updated_at = clock_timestamp()"
                                " WHERE id = $1::uuid",
                                column),
                    pool_.id, wanted);
    changed(field, there, wanted);
  }

  void grant(const std::string& tenant) {
    must_have_tenant(tx_, tenant);
    const auto made = tx_.exec_params(
        "INSERT INTO pool_grants (pool_id, tenant_id) VALUES ($1::uuid, $2)"
        " ON CONFLICT DO NOTHING RETURNING 1",
        pool_.id, tenant);
    if (!made.empty()) changes_.push_back("granted to " + tenant);
  }

  // A line without a grant of its pool could not even be revoked.
  void revoke_grant(const std::string& tenant) {
    if (tenant == pool_.tenant) refuse("revoke_grant: the pool is its own: " + tenant);
    must_have_tenant(tx_, tenant);
    wait_for_allocations();
    const auto held = tx_.exec_params(
        "SELECT abbrev(space) FROM holdings WHERE pool_id = $1::uuid AND tenant_id = $2"
        " AND upper_inf(period) LIMIT 1",
        pool_.id, tenant);
    if (!held.empty()) {
      conflict(fmt::format("revoke_grant: lines of {} hold space of the pool, {} for one", tenant,
                           held[0][0].c_str()));
    }
    const auto gone = tx_.exec_params(
        "DELETE FROM pool_grants WHERE pool_id = $1::uuid AND tenant_id = $2 RETURNING 1", pool_.id,
        tenant);
    if (!gone.empty()) changes_.push_back("no more granted to " + tenant);
  }

  // Whoever has taken space has the pool's row locked, by the reference of its binding.
  void wait_for_allocations() {
    tx_.exec_params("SELECT 1 FROM ip_pools WHERE id = $1::uuid FOR UPDATE", pool_.id);
  }

  void set_nas(const std::vector<std::string>& nas_ips) {
    std::vector<std::string> wanted;
    for (const std::string& nas : nas_ips) wanted.push_back(written(nas));
    const std::string before = nas_ips_of(tx_, pool_.id);
    const std::string after = listed(wanted);
    if (before == after) return;
    tx_.exec_params("DELETE FROM pool_nas WHERE pool_id = $1::uuid", pool_.id);
    for (const std::string& nas : wanted) {
      tx_.exec_params(
          "INSERT INTO pool_nas (pool_id, nas_ip) VALUES ($1::uuid, $2::inet)"
          " ON CONFLICT DO NOTHING",
          pool_.id, nas);
    }
    changed("nas_ips", before, after);
  }

  // Every object of the domain is made and looked for in its VRF: none may be elsewhere.
  void set_vrf(std::int64_t wanted) {
    const std::int64_t domain = there_[0]["routing_domain_id"].as<std::int64_t>();
    const std::int64_t there =
        tx_.exec_params(
               "SELECT coalesce(netbox_vrf_id, 0) FROM routing_domains WHERE id = $1 FOR UPDATE",
               domain)[0][0]
            .as<std::int64_t>();
    if (there == wanted) return;
    for (const auto& row :
         tx_.exec_params("SELECT id::text, pool_name FROM ip_pools WHERE routing_domain_id = $1"
                         " ORDER BY id FOR UPDATE",
                         domain)) {
      const std::string id = row[0].c_str();
      if (has_told_netbox(id) || netbox_is_owed(tx_, id)) {
        conflict(fmt::format("vrf: lines of pool {} have objects where routing domain {} is now",
                             row[1].c_str(), there_[0]["domain"].c_str()));
      }
    }
    tx_.exec_params(
        "UPDATE routing_domains SET netbox_vrf_id = nullif($2::bigint, 0) WHERE id = $1", domain,
        wanted);
    // What NetBox holds there is not known.
    tx_.exec_params("UPDATE ip_pools SET netbox_imported_at = NULL WHERE routing_domain_id = $1",
                    domain);
    changed("vrf", there == 0 ? "" : std::to_string(there),
            wanted == 0 ? "" : std::to_string(wanted));
  }

  // What the platform before us made is elsewhere already: only what was told by us counts.
  bool has_told_netbox(const std::string& id) {
    return !tx_.exec_params(
                   "SELECT 1 FROM ip_reservations r JOIN effects e ON e.service_id = r.service_id"
                   " AND e.system = 'netbox' AND e.object = r.netbox_key"
                   " WHERE r.pool_id = $1::uuid AND r.netbox_key <> ''"
                   " AND e.status <> 'not_applicable' AND (e.action <> 'release'"
                   "  OR e.status <> 'confirmed') AND NOT EXISTS (SELECT 1 FROM effects n"
                   "  WHERE n.service_id = e.service_id AND n.system = 'netbox'"
                   "  AND n.object = e.object AND n.id > e.id) LIMIT 1",
                   id)
                .empty();
  }

  void set_mode(const std::string& wanted) {
    const std::string there = there_[0]["netbox_mode"].c_str();
    if (there == wanted) return;
    if (wanted == "off") must_have_nothing_in_netbox();
    set("netbox_mode", "netbox_mode", wanted);
    // The rule of a new pool: what NetBox holds in it is blocked first, and it picks only in a
    // prefix that was seen to be there.
    if (there != "off" && wanted != "authoritative") return;
    tx_.exec_params("UPDATE ip_pools SET netbox_imported_at = NULL WHERE id = $1::uuid", pool_.id);
  }

  // A pool that is off tells NetBox nothing, so nobody would ever take the objects away.
  void must_have_nothing_in_netbox() {
    wait_for_allocations();
    const auto known = tx_.exec_params(
        "SELECT abbrev(h.space) FROM holdings h JOIN ip_reservations r ON r.holding_id = h.id"
        " WHERE h.pool_id = $1::uuid AND upper_inf(h.period) AND r.netbox_ip_id IS NOT NULL"
        " LIMIT 1",
        pool_.id);
    if (!known.empty()) {
      conflict(fmt::format("netbox_mode: lines have objects in NetBox, {} for one",
                           known[0][0].c_str()));
    }
    if (netbox_is_owed(tx_, pool_.id))
      conflict("netbox_mode: NetBox is still to be told of lines of the pool, or of their end");
  }

  void start() {
    const auto started = tx_.exec_params(
        "UPDATE ip_pools SET netbox_imported_at = clock_timestamp() WHERE id = $1::uuid"
        " AND netbox_mode <> 'off' AND netbox_imported_at IS NULL RETURNING 1",
        pool_.id);
    if (!started.empty()) changes_.emplace_back("started without an import");
  }

  Tx& tx_;
  const KnownPool& pool_;
  const PoolSettings& wanted_;
  const pqxx::result there_;
  std::vector<std::string> changes_;
};

}  // namespace

void check_group(const std::string& group) {
  if (group.empty()) return;
  if (const auto ok = domain::check_id("group", group); !ok) refuse(ok.error().message);
}

void check_nas_ips(const std::vector<std::string>& nas_ips) {
  for (const std::string& nas : nas_ips) {
    if (!domain::parse_ipv4(nas) && !domain::parse_ipv6(nas)) refuse("nas_ips: no address: " + nas);
  }
}

void check_netbox_mode(const std::string& mode) {
  if (mode != "mirror" && mode != "authoritative" && mode != "off")
    refuse("netbox_mode must be mirror, authoritative or off");
}

void check_times(std::chrono::seconds quarantine, std::chrono::seconds hold_time) {
  if (quarantine.count() < 0) refuse("quarantine must not be negative");
  if (hold_time.count() < 0) refuse("hold_time must not be negative");
}

void must_outlive_sessions(std::chrono::seconds hold_time, const Settings& settings) {
  if (hold_time < settings.longest_lease)
    refuse(fmt::format("hold_time is shorter than a session may live (ledger.longest_lease, {} s)",
                       settings.longest_lease.count()));
}

std::string written(const std::string& space) {
  if (const auto address = domain::parse_ipv4(space)) return domain::to_string(*address);
  if (const auto prefix = domain::parse_ipv4_prefix(space)) return domain::to_string(*prefix);
  if (const auto address = domain::parse_ipv6(space)) return domain::to_string(*address);
  if (const auto prefix = domain::parse_ipv6_prefix(space)) return domain::to_string(*prefix);
  return space;
}

std::string listed(std::vector<std::string> words) {
  std::ranges::sort(words);
  const auto doubles = std::ranges::unique(words);
  words.erase(doubles.begin(), doubles.end());
  return fmt::format("{}", fmt::join(words, ", "));
}

std::string listed_in(Tx& tx, const std::string& sql, const std::string& pool_id) {
  std::vector<std::string> words;
  for (const auto& row : tx.exec_params(sql, pool_id)) words.emplace_back(row[0].c_str());
  return listed(std::move(words));
}

std::string nas_ips_of(Tx& tx, const std::string& pool_id) {
  return listed_in(tx, "SELECT host(nas_ip) FROM pool_nas WHERE pool_id = $1::uuid", pool_id);
}

std::vector<std::string> Ledger::set_pool(const std::string& tenant, const std::string& name,
                                          const PoolSettings& wanted, const By& by) {
  must_say_why(by);
  check_settings(wanted, settings_);
  return store_->as_owner([&](Tx& tx) {
    const KnownPool pool = known_pool(tx, tenant, name);
    auto changes = Setting{tx, pool, wanted}.run();
    if (!changes.empty())
      note_pool_change(tx, pool, "pool_set", fmt::format("{}", fmt::join(changes, "; ")), by);
    return changes;
  });
}

}  // namespace addrflow::ledger
