// Pools in operation: how full they are, and what people change about them.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <addrflow/domain/ids.hpp>
#include <addrflow/domain/ipv4.hpp>
#include <addrflow/domain/ipv6.hpp>
#include <addrflow/ledger/ledger.hpp>
#include <algorithm>

#include "pools.hpp"
#include "store.hpp"

namespace addrflow::ledger {
namespace {

[[noreturn]] void refuse(const std::string& message) {
  throw LedgerError{ErrorCode::kInvalidArgument, message};
}

constexpr const char* kUsage =
    "SELECT p.id::text, p.tenant_id, p.pool_name, p.family, p.prefix::text, d.name, p.pool_group,"
    " p.priority, p.draining, p.delegated_length, p.chunk_length, p.total_addresses,"
    " p.assigned_count, p.available_count, coalesce(p.counted_at::text, ''), p.quarantine_s,"
    " p.hold_time_s, p.netbox_mode, p.netbox_imported_at IS NOT NULL, coalesce(d.netbox_vrf_id, 0)"
    " FROM ip_pools p JOIN routing_domains d ON d.id = p.routing_domain_id";

PoolUsage usage_of(const pqxx::row& row) {
  PoolUsage usage;
  usage.id = row[0].c_str();
  usage.tenant = row[1].c_str();
  usage.name = row[2].c_str();
  usage.family = row[3].c_str();
  usage.prefix = row[4].c_str();
  usage.routing_domain = row[5].c_str();
  usage.group = row[6].c_str();
  usage.priority = row[7].as<int>();
  usage.draining = row[8].as<bool>();
  usage.delegated_length = row[9].as<int>();
  usage.shortest_length = row[10].as<int>();
  usage.total = row[11].as<std::int64_t>();
  usage.held = row[12].as<std::int64_t>();
  usage.free = row[13].as<std::int64_t>();
  usage.counted_at = row[14].c_str();
  usage.quarantine_s = row[15].as<std::int64_t>();
  usage.hold_time_s = row[16].as<std::int64_t>();
  usage.netbox_mode = row[17].c_str();
  usage.netbox_imported = row[18].as<bool>();
  usage.netbox_vrf_id = row[19].as<std::int64_t>();
  return usage;
}

std::vector<std::string> words(Tx& tx, const std::string& sql, const std::string& pool) {
  std::vector<std::string> list;
  for (const auto& row : tx.exec_params(sql, pool)) list.emplace_back(row[0].c_str());
  return list;
}

// "a", "a-b" or a prefix, as prefixes.
std::vector<std::string> prefixes_of(const KnownPool& pool, const std::string& text) {
  if (pool.family != domain::kFamilyIpv4) {
    if (!domain::parse_ipv6_prefix(text)) refuse("space is no IPv6 prefix: " + text);
    return {text};
  }
  if (domain::parse_ipv4_prefix(text)) return {text};
  const auto dash = text.find('-');
  const auto first = domain::parse_ipv4(text.substr(0, dash));
  const auto last = dash == std::string::npos ? first : domain::parse_ipv4(text.substr(dash + 1));
  if (!first || !last || last->value < first->value)
    refuse("space is no address, prefix or range: " + text);
  std::vector<std::string> prefixes;
  for (std::uint64_t at = first->value; at <= last->value;) {
    int length = 32;
    while (length > 0 && at % (std::uint64_t{1} << (33 - length)) == 0 &&
           at + (std::uint64_t{1} << (33 - length)) - 1 <= last->value)
      --length;
    prefixes.push_back(
        domain::to_string(domain::Ipv4Prefix{{static_cast<std::uint32_t>(at)}, length}));
    at += std::uint64_t{1} << (32 - length);
  }
  return prefixes;
}

// Nobody gets any of it from here on. The locks wait for allocations that have begun.
std::vector<std::string> exclude(Tx& tx, const KnownPool& pool, const std::string& prefix,
                                 const std::string& reason) {
  tx.exec_params("SELECT pg_advisory_xact_lock(hashtextextended($1, 14))", pool.id);
  tx.exec_params("SELECT 1 FROM pool_shards WHERE pool_id = $1::uuid ORDER BY shard FOR UPDATE",
                 pool.id);
  tx.exec_params(
      "INSERT INTO pool_exclusions (pool_id, space, reason) VALUES ($1::uuid, $2::inet, $3)"
      " ON CONFLICT DO NOTHING",
      pool.id, prefix, reason);
  tx.exec_params(
      "UPDATE pool_addresses SET state = 'blocked', why = $3 WHERE pool_id = $1::uuid"
      " AND address && $2::inet AND state = 'free'",
      pool.id, prefix, reason);
  std::vector<std::string> held;
  for (const auto& row :
       tx.exec_params("SELECT abbrev(space) FROM holdings WHERE pool_id = $1::uuid"
                      " AND upper_inf(period) AND space && $2::inet ORDER BY space LIMIT 100",
                      pool.id, prefix)) {
    held.emplace_back(row[0].c_str());
  }
  return held;
}

// The other way round. What a line holds all the same stays its own, and quarantine goes on.
std::size_t unblock(Tx& tx, const KnownPool& pool, const std::string& prefix) {
  tx.exec_params("SELECT pg_advisory_xact_lock(hashtextextended($1, 14))", pool.id);
  const auto wider = tx.exec_params(
      "SELECT abbrev(space) FROM pool_exclusions WHERE pool_id = $1::uuid AND space >> $2::inet"
      " LIMIT 1",
      pool.id, prefix);
  if (!wider.empty()) {
    throw LedgerError{ErrorCode::kConflict,
                      fmt::format("space {} is part of {}, which is excluded: unblock that", prefix,
                                  wider[0][0].c_str())};
  }
  const auto gateway = tx.exec_params(
      "SELECT 1 FROM ip_pools WHERE id = $1::uuid AND gateway <<= $2::inet", pool.id, prefix);
  if (!gateway.empty()) refuse("space has the pool's gateway in it: " + prefix);
  const auto excluded = tx.exec_params(
      "DELETE FROM pool_exclusions WHERE pool_id = $1::uuid AND space <<= $2::inet RETURNING 1",
      pool.id, prefix);
  const auto rows = tx.exec_params(
      "UPDATE pool_addresses a SET state = CASE WHEN EXISTS (SELECT 1 FROM holdings h WHERE"
      " h.pool_id = a.pool_id AND upper_inf(h.period) AND h.space = a.address)"
      " THEN 'held' ELSE 'free' END, why = '' WHERE a.pool_id = $1::uuid"
      " AND a.address <<= $2::inet AND a.state = 'blocked' RETURNING 1",
      pool.id, prefix);
  return excluded.size() + rows.size();
}

void must_be_free(const std::vector<std::string>& held) {
  constexpr std::size_t kMostNamed = 5;
  if (held.empty()) return;
  std::vector<std::string> some(
      held.begin(), held.begin() + static_cast<std::ptrdiff_t>(std::min(held.size(), kMostNamed)));
  throw LedgerError{ErrorCode::kConflict,
                    fmt::format("lines hold {}{}: drain it instead", fmt::join(some, ", "),
                                held.size() > kMostNamed ? " and more" : "")};
}

// What of the pool is not in `prefix`; with IPv4, its network and broadcast address too.
std::vector<std::string> outside(Tx& tx, const KnownPool& pool, const std::string& prefix) {
  std::vector<std::string> list;
  for (const auto& row : tx.exec_params(
           "SELECT abbrev(CASE WHEN lower_half(whole) >>= $2::inet THEN upper_half(whole)"
           " ELSE lower_half(whole) END) FROM generate_series(masklen($1::inet),"
           " masklen($2::inet) - 1) m, LATERAL (SELECT network(set_masklen($2::inet, m))::inet"
           " AS whole) w"
           " UNION ALL SELECT host(edge) FROM unnest(ARRAY[$2::inet, broadcast($2::inet)]) edge"
           " WHERE $3 = 'ipv4' AND masklen($2::inet) <= 30",
           pool.prefix, prefix, pool.family)) {
    list.emplace_back(row[0].c_str());
  }
  return list;
}

void cut(Tx& tx, const KnownPool& pool, const std::string& prefix) {
  tx.exec_params("DELETE FROM pool_addresses WHERE pool_id = $1::uuid AND NOT address <<= $2::inet",
                 pool.id, prefix);
  tx.exec_params("DELETE FROM pool_exclusions WHERE pool_id = $1::uuid AND NOT space <<= $2::inet",
                 pool.id, prefix);
  if (pool.family != domain::kFamilyIpv4) {
    tx.exec_params(
        "DELETE FROM pool_shards WHERE pool_id = $1::uuid AND (last < piece_number($2::inet, $3)"
        " OR next > piece_number(broadcast($2::inet), $3))",
        pool.id, prefix, pool.chunk_length);
    tx.exec_params(
        "UPDATE pool_shards SET next = greatest(next, piece_number($2::inet, $3)),"
        " last = least(last, piece_number(broadcast($2::inet), $3)) WHERE pool_id = $1::uuid",
        pool.id, prefix, pool.chunk_length);
  }
  tx.exec_params("UPDATE ip_pools SET prefix = $2::cidr WHERE id = $1::uuid", pool.id, prefix);
}

void check_smaller(Tx& tx, const KnownPool& pool, const std::string& prefix) {
  if (!domain::parse_ipv4_prefix(prefix) && !domain::parse_ipv6_prefix(prefix))
    refuse("prefix is no prefix: " + prefix);
  const auto row = tx.exec_params("SELECT $1::inet >>= $2::inet, masklen($2::inet) <= $3",
                                  pool.prefix, prefix, pool.chunk_length)[0];
  if (!row[0].as<bool>()) refuse(fmt::format("prefix {} is no part of {}", prefix, pool.prefix));
  if (!row[1].as<bool>())
    refuse(fmt::format("prefix {} is smaller than what the pool delegates", prefix));
}

}  // namespace

void must_say_why(const By& by) {
  if (by.actor.empty()) refuse("actor: who does it?");
  if (by.reason.empty()) refuse("reason: why?");
}

KnownPool known_pool(Tx& tx, const std::string& tenant, const std::string& name) {
  const auto found = tx.exec_params(
      "SELECT id::text, tenant_id, pool_name, family, prefix::text, chunk_length FROM ip_pools"
      " WHERE tenant_id = $1 AND (pool_name = $2 OR id::text = $2) FOR NO KEY UPDATE",
      tenant, name);
  if (found.empty())
    throw LedgerError{ErrorCode::kNoSuchPool, "name: there is no such pool: " + name};
  return {.id = found[0][0].c_str(),
          .tenant = found[0][1].c_str(),
          .name = found[0][2].c_str(),
          .family = found[0][3].c_str(),
          .prefix = found[0][4].c_str(),
          .chunk_length = found[0][5].as<int>()};
}

void note_pool_change(Tx& tx, const KnownPool& pool, const std::string& event,
                      const std::string& what, const By& by) {
  tx.exec_params(
      "INSERT INTO audit_log (tenant_id, event, actor, pool_id, code, detail)"
      " VALUES ($1, $2, $3, $4::uuid, 'ok', $5)",
      pool.tenant, event, by.actor, pool.id, what.empty() ? by.reason : what + ": " + by.reason);
}

std::vector<PoolUsage> Ledger::pools(const std::string& tenant) {
  return store_->as_owner([&](Tx& tx) {
    std::vector<PoolUsage> list;
    for (const auto& row :
         tx.exec_params(std::string{kUsage} + " WHERE $1 = '' OR p.tenant_id = $1"
                                              " ORDER BY p.tenant_id, p.family, p.pool_group,"
                                              " p.priority, p.pool_name",
                        tenant)) {
      list.push_back(usage_of(row));
    }
    return list;
  });
}

std::vector<LifecycleCounts> Ledger::lifecycle_counts(const std::string& tenant) {
  return store_->as_owner([&](Tx& tx) {
    std::vector<LifecycleCounts> counts;
    for (const auto& row : tx.exec_params(
             "SELECT f.family, s.state::text, count(r.id),"
             " count(*) FILTER (WHERE upper_inf(h.period) AND r.netbox_ip_id IS NOT NULL),"
             " count(*) FILTER (WHERE upper_inf(h.period) AND r.netbox_ip_id IS NULL)"
             " FROM unnest(ARRAY['ipv4', 'ipv6_pd']) f(family)"
             " CROSS JOIN unnest(enum_range(NULL::lifecyclestate)) s(state)"
             " LEFT JOIN ip_reservations r ON r.family = f.family AND r.lifecycle_state = s.state"
             "  AND ($1 = '' OR r.tenant_id = $1)"
             " LEFT JOIN holdings h ON h.id = r.holding_id GROUP BY 1, s.state ORDER BY 1, s.state",
             tenant)) {
      if (counts.empty() || counts.back().family != row[0].c_str()) counts.emplace_back();
      LifecycleCounts& of_family = counts.back();
      of_family.family = row[0].c_str();
      of_family.states[row[1].c_str()] = row[2].as<std::int64_t>();
      of_family.tracked += row[3].as<std::int64_t>();
      of_family.untracked += row[4].as<std::int64_t>();
    }
    return counts;
  });
}

PoolUsage Ledger::pool_usage(const std::string& tenant, const std::string& name) {
  return store_->as_owner([&](Tx& tx) {
    const KnownPool pool = known_pool(tx, tenant, name);
    PoolUsage usage =
        usage_of(tx.exec_params(std::string{kUsage} + " WHERE p.id = $1::uuid", pool.id)[0]);
    const auto counted = tx.exec_params(
        "SELECT held, free, resting, blocked, clock_timestamp()::text FROM count_pool($1::uuid)",
        pool.id)[0];
    usage.held = counted[0].as<std::int64_t>();
    usage.free = counted[1].as<std::int64_t>();
    usage.resting = counted[2].as<std::int64_t>();
    usage.blocked = counted[3].as<std::int64_t>();
    usage.total = usage.held + usage.free + usage.resting;
    usage.counted_at = counted[4].c_str();
    usage.nas_ips = words(
        tx, "SELECT host(nas_ip) FROM pool_nas WHERE pool_id = $1::uuid ORDER BY nas_ip", pool.id);
    usage.granted_to =
        words(tx, "SELECT tenant_id FROM pool_grants WHERE pool_id = $1::uuid ORDER BY 1", pool.id);
    usage.exclusions = words(tx,
                             "SELECT abbrev(space) || ' ' || reason FROM pool_exclusions"
                             " WHERE pool_id = $1::uuid ORDER BY space LIMIT 1000",
                             pool.id);
    return usage;
  });
}

void Ledger::drain_pool(const std::string& tenant, const std::string& name, bool draining,
                        const By& by) {
  must_say_why(by);
  store_->as_owner([&](Tx& tx) {
    const KnownPool pool = known_pool(tx, tenant, name);
    tx.exec_params(
        "UPDATE ip_pools SET draining = $2, updated_at = clock_timestamp()"
        " WHERE id = $1::uuid",
        pool.id, draining);
    note_pool_change(tx, pool, draining ? "pool_drain" : "pool_undrain", "", by);
    return true;
  });
}

PoolChange Ledger::exclude_space(const std::string& tenant, const std::string& name,
                                 const std::string& space, bool drain, const By& by) {
  must_say_why(by);
  return store_->as_owner([&](Tx& tx) {
    const KnownPool pool = known_pool(tx, tenant, name);
    PoolChange change;
    for (const std::string& prefix : prefixes_of(pool, space)) {
      if (!tx.exec_params("SELECT $1::inet >>= $2::inet", pool.prefix, prefix)[0][0].as<bool>())
        refuse("space is not inside the pool: " + prefix);
      for (std::string& held : exclude(tx, pool, prefix, by.reason))
        change.held.push_back(std::move(held));
    }
    if (!drain) must_be_free(change.held);
    change.complete = change.held.empty();
    note_pool_change(tx, pool, "pool_exclude", space, by);
    tx.exec_params("SELECT roll_up_pool($1::uuid)", pool.id);
    return change;
  });
}

PoolChange Ledger::shrink_pool(const std::string& tenant, const std::string& name,
                               const std::string& prefix, bool drain, const By& by) {
  must_say_why(by);
  return store_->as_owner([&](Tx& tx) {
    const KnownPool pool = known_pool(tx, tenant, name);
    check_smaller(tx, pool, prefix);
    PoolChange change;
    if (pool.prefix == prefix) return change;
    for (const std::string& part : outside(tx, pool, prefix)) {
      for (std::string& held : exclude(tx, pool, part, "the pool shrinks"))
        change.held.push_back(std::move(held));
    }
    if (!drain) must_be_free(change.held);
    change.complete = change.held.empty();
    if (change.complete) cut(tx, pool, prefix);
    note_pool_change(tx, pool, change.complete ? "pool_shrink" : "pool_shrink_begun",
                     pool.prefix + " to " + prefix, by);
    tx.exec_params("SELECT roll_up_pool($1::uuid)", pool.id);
    return change;
  });
}

void Ledger::unblock_space(const std::string& tenant, const std::string& name,
                           const std::string& space, const By& by) {
  must_say_why(by);
  store_->as_owner([&](Tx& tx) {
    const KnownPool pool = known_pool(tx, tenant, name);
    std::size_t freed = 0;
    for (const std::string& prefix : prefixes_of(pool, space)) freed += unblock(tx, pool, prefix);
    if (freed == 0)
      throw LedgerError{ErrorCode::kConflict, "space has nothing that is blocked: " + space};
    note_pool_change(tx, pool, "pool_unblock", space, by);
    tx.exec_params("SELECT roll_up_pool($1::uuid)", pool.id);
    return true;
  });
}

void Ledger::end_quarantine(const std::string& tenant, const std::string& name,
                            const std::string& space, const By& by) {
  must_say_why(by);
  if (!domain::parse_ipv4(space) && !domain::parse_ipv6_prefix(space))
    refuse("space is no address and no prefix: " + space);
  store_->as_owner([&](Tx& tx) {
    const KnownPool pool = known_pool(tx, tenant, name);
    const auto freed = tx.exec_params(
        "UPDATE pool_addresses SET free_after = '-infinity' WHERE pool_id = $1::uuid"
        " AND address = $2::inet AND state = 'free' AND free_after > clock_timestamp() RETURNING 1",
        pool.id, space);
    if (freed.empty())
      throw LedgerError{ErrorCode::kConflict, "space is not in quarantine: " + space};
    note_pool_change(tx, pool, "quarantine_ended", space, by);
    return true;
  });
}

}  // namespace addrflow::ledger
