// NetBox's side of the ledger: effects that the catch-up claims, the one writer of a prefix pool,
// and what NetBox held before a pool was ours.
#include <fmt/format.h>
#include <addrflow/ledger/ledger.hpp>
#include <algorithm>
#include <array>

#include "allocator.hpp"
#include "pools.hpp"
#include "store.hpp"

namespace addrflow::ledger {
namespace {

// What still has to reach NetBox is of two kinds, each with its index (migration 0016). Where
// NetBox is to pick ("take"), a caller waits and the service asks; for a release nobody waits.
constexpr const char* kWaitedFor = "e.action NOT IN ('take', 'release')";
constexpr const char* kRelease = "e.action = 'release'";

// Alias e. In the words of the kind's index.
std::string owed_to_netbox(const char* kind) {
  return fmt::format("e.system = 'netbox' AND {} AND {}", kUnconfirmed, kind);
}

std::string array_of(const std::vector<std::int64_t>& ids) {
  return fmt::format("{{{}}}", fmt::join(ids, ","));
}

struct Due {
  std::vector<std::int64_t> newest;
  std::vector<std::int64_t> older;  // a newer wish for the same object has a row of its own
};

// Of one kind, in the order of its index: a batch costs what it holds, not what the backlog holds.
void lock_due(Tx& tx, const char* kind, std::size_t limit, std::chrono::milliseconds grace,
              Due& due) {
  const auto found = tx.exec_params(
      fmt::format(
          "SELECT e.id, EXISTS (SELECT 1 FROM effects n WHERE n.service_id = e.service_id"
          " AND n.system = 'netbox' AND n.object = e.object AND n.id > e.id)"
          " FROM effects e WHERE {} AND e.not_before <= now()"
          " AND e.leased_until <= clock_timestamp()"
          " AND (e.status <> 'sent' OR e.hard_deadline <= clock_timestamp())"
          " AND e.updated_at + greatest($2, coalesce((e.reply->>'retry_after_ms')::bigint, 0))"
          " * interval '1 millisecond' <= clock_timestamp()"
          " ORDER BY e.not_before, e.id LIMIT $1 FOR UPDATE SKIP LOCKED",
          owed_to_netbox(kind)),
      limit, static_cast<std::int64_t>(grace.count()));
  for (const auto& row : found) {
    (row[1].as<bool>() ? due.older : due.newest).push_back(row[0].as<std::int64_t>());
  }
}

Due lock_due(Tx& tx, std::size_t limit, std::chrono::milliseconds grace) {
  Due due;
  lock_due(tx, kWaitedFor, limit, grace, due);
  const std::size_t taken = due.newest.size() + due.older.size();
  if (taken < limit) lock_due(tx, kRelease, limit - taken, grace, due);
  return due;
}

ports::ClaimedEffect claimed_of(const pqxx::row& row) {
  ports::ClaimedEffect claimed;
  v1::EffectRequest& request = claimed.request;
  request.mutable_service()->set_tenant_id(row[1].c_str());
  request.mutable_service()->set_subscriber_id(row[2].c_str());
  request.mutable_service()->set_service(row[3].c_str());
  request.set_number(row[4].as<std::int64_t>());
  request.mutable_effect()->set_effect_id(row[0].as<std::int64_t>());
  request.mutable_effect()->set_system("netbox");
  request.mutable_effect()->set_action(row[5].c_str());
  ports::Leave& leave = claimed.leave;
  leave.kind = ports::Leave::Kind::kSend;
  leave.effect_id = row[0].as<std::int64_t>();
  leave.number = row[4].as<std::int64_t>();
  leave.tenant = row[1].c_str();
  leave.system = "netbox";
  leave.action = row[5].c_str();
  leave.wish = nlohmann::json::parse(row[6].c_str());
  leave.attempt = row[7].as<int>();
  leave.earlier_unknown = row[8].as<bool>();
  return claimed;
}

struct Space {
  std::string first;
  std::string last;
  std::string cidr;     // of a range: the smallest prefix that holds it
  bool around = false;  // it holds the whole pool
  bool inside = false;  // a part of it is in the pool
};

Space space_of(Tx& tx, const NetboxPool& pool, const Occupied& object) {
  const auto found =
      object.cidr.empty()
          ? tx.exec_params(
                "SELECT $2, $3, c::text, c >>= $1::cidr, c && $1::cidr"
                " FROM inet_merge($2::text::inet, $3::text::inet) c",
                pool.prefix, object.first, object.last)
          : tx.exec_params(
                "SELECT host(network(c)), host(broadcast(c)), c::text, c >>= $1::cidr,"
                " c && $1::cidr FROM (SELECT $2::text::inet AS c) x",
                pool.prefix, object.cidr);
  const auto& row = found[0];
  return {.first = row[0].c_str(),
          .last = row[1].c_str(),
          .cidr = row[2].c_str(),
          .around = row[3].as<bool>(),
          .inside = row[4].as<bool>()};
}

struct Blocking {
  std::int64_t blocked = 0;
  std::vector<std::string> held;  // by lines of ours
};

Blocking block_ipv4(Tx& tx, const NetboxPool& pool, const Space& space, const std::string& why,
                    bool dry_run) {
  const std::string where =
      " pool_id = $1::uuid AND address BETWEEN $2::inet AND $3::inet AND state = ";
  Blocking result;
  for (const auto& row :
       tx.exec_params("SELECT host(address) FROM pool_addresses WHERE" + where + "'held'", pool.id,
                      space.first, space.last)) {
    result.held.emplace_back(row[0].c_str());
  }
  if (dry_run) {
    result.blocked = tx.exec_params("SELECT count(*) FROM pool_addresses WHERE" + where + "'free'",
                                    pool.id, space.first, space.last)[0][0]
                         .as<std::int64_t>();
    return result;
  }
  result.blocked = static_cast<std::int64_t>(
      tx.exec_params(
            "UPDATE pool_addresses SET state = 'blocked', why = $4 WHERE" + where + "'free'",
            pool.id, space.first, space.last, why)
          .affected_rows());
  return result;
}

Blocking block_prefix(Tx& tx, const NetboxPool& pool, const Space& space, const std::string& why,
                      bool dry_run) {
  Blocking result{.blocked = 1, .held = {}};
  for (const auto& row :
       tx.exec_params("SELECT space::text FROM holdings WHERE pool_id = $1::uuid AND"
                      " upper_inf(period) AND space && $2::inet",
                      pool.id, space.cidr)) {
    result.held.emplace_back(row[0].c_str());
  }
  if (dry_run) return result;
  tx.exec_params(
      "INSERT INTO pool_exclusions (pool_id, space, reason) VALUES ($1::uuid, $2::inet, $3)"
      " ON CONFLICT (pool_id, space) DO UPDATE SET reason = excluded.reason",
      pool.id, space.cidr, why);
  return result;
}

// By our key; or, of what the platform before us made, by the id that came along with a line which
// still has that space.
bool is_known(Tx& tx, const NetboxPool& pool, const Occupied& object) {
  if (!object.key.empty()) {
    // A line of another routing domain has nothing in this pool, whatever the numbers say.
    return !tx.exec_params(
                  "SELECT 1 FROM ip_reservations r JOIN ip_pools p ON p.id = r.pool_id"
                  " JOIN ip_pools own ON own.routing_domain_id = p.routing_domain_id"
                  " WHERE own.id = $1::uuid AND r.netbox_key = $2 LIMIT 1",
                  pool.id, object.key)
                .empty();
  }
  if (object.netbox_id == 0) return false;
  return !tx.exec_params(
                "SELECT 1 FROM ip_reservations r JOIN holdings h ON h.id = r.holding_id"
                " WHERE r.pool_id = $1::uuid AND r.netbox_ip_id = $2 AND r.created_by = 'import'"
                " AND r.ip_address = $3::text::inet AND upper_inf(h.period) LIMIT 1",
                pool.id, object.netbox_id, object.cidr.empty() ? object.first : object.cidr)
              .empty();
}

// Of a row r: what it says of space that nobody holds, NetBox is not to show.
constexpr const char* kHoldsSpace =
    "EXISTS (SELECT 1 FROM holdings h WHERE h.id = r.holding_id AND upper_inf(h.period))";

std::string action_for(const std::string& state) {
  if (state == "active") return "set_active";
  if (state == "suspended") return "suspend";
  if (state == "revoking" || state == "revoked") return "deprecate";
  return "reserve";
}

}  // namespace

bool netbox_is_owed(Tx& tx, const std::string& pool_id) {
  // Each in the words of an index. For a "take" that it refused NetBox has made nothing.
  const std::array conditions{owed_to_netbox(kWaitedFor), owed_to_netbox(kRelease),
                              std::string{"e.system = 'netbox' AND e.action = 'take'"
                                          " AND e.status IN ('planned', 'sent', 'unknown')"}};
  return std::ranges::any_of(conditions, [&](const std::string& condition) {
    return tx
        .exec_params(fmt::format("SELECT EXISTS (SELECT 1 FROM effects e WHERE {}"
                                 " AND e.wish->>'pool_id' = $1)",
                                 condition),
                     pool_id)[0][0]
        .as<bool>();
  });
}

std::int64_t unsettled_ms(Tx& tx, std::int64_t service_id, const std::string& object,
                          std::int64_t effect_id) {
  return tx
      .exec_params(
          "SELECT coalesce(max(ceil(extract(epoch FROM e.hard_deadline - clock_timestamp())"
          " * 1000))::bigint, 0) FROM effects e WHERE e.service_id = $1 AND e.system = 'netbox'"
          " AND e.object = $2 AND e.id < $3 AND e.attempts > 0"
          " AND e.hard_deadline > clock_timestamp()"
          " AND e.status IN ('sent', 'unknown', 'superseded')"
          " AND coalesce(e.reply->>'status', 'unknown') = 'unknown'",
          service_id, object, effect_id)[0][0]
      .as<std::int64_t>();
}

std::vector<ports::ClaimedEffect> Ledger::claim_netbox(int limit, std::chrono::milliseconds lease,
                                                       std::chrono::milliseconds grace) {
  return store_->as_owner([&](Tx& tx) {
    const Due due = lock_due(tx, static_cast<std::size_t>(limit), grace);
    tx.exec_params(
        "UPDATE effects SET status = 'superseded', updated_at = clock_timestamp()"
        " WHERE id = ANY($1::bigint[])",
        array_of(due.older));
    std::vector<ports::ClaimedEffect> claimed;
    for (const auto& row : tx.exec_params(
             "WITH before AS (SELECT id, status IN ('sent', 'unknown') AS unsure FROM effects"
             " WHERE id = ANY($1::bigint[])), moved AS ("
             " UPDATE effects e SET status = 'sent', attempts = attempts + 1, reply = NULL,"
             " sent_at = clock_timestamp(), updated_at = clock_timestamp(),"
             " leased_until = clock_timestamp() + $2::bigint * interval '1 millisecond',"
             " hard_deadline = greatest(e.hard_deadline,"
             "   clock_timestamp() + $2::bigint * interval '1 millisecond')"
             " FROM before b WHERE e.id = b.id RETURNING e.*, b.unsure)"
             " SELECT m.id, m.tenant_id, s.subscriber_id, s.service, m.number, m.action,"
             " m.wish::text, m.attempts, m.unsure, m.service_id, m.object"
             " FROM moved m JOIN services s ON s.id = m.service_id"
             " ORDER BY m.action = 'release', m.id",
             array_of(due.newest), static_cast<std::int64_t>(lease.count()))) {
      auto& one = claimed.emplace_back(claimed_of(row));
      one.leave.wish["unsettled_ms"] =
          unsettled_ms(tx, row[9].as<std::int64_t>(), row[10].c_str(), one.leave.effect_id);
    }
    return claimed;
  });
}

std::int64_t Ledger::netbox_backlog() {
  return store_->as_owner([&](Tx& tx) {
    std::int64_t backlog = 0;
    for (const char* kind : {kWaitedFor, kRelease}) {
      backlog += tx.exec(fmt::format("SELECT count(*) FROM effects e WHERE {}",
                                     owed_to_netbox(kind)))[0][0]
                     .as<std::int64_t>();
    }
    return backlog;
  });
}

bool Ledger::acquire_writer(const std::string& pool, const std::string& holder,
                            std::chrono::milliseconds lease) {
  return store_->as_owner([&](Tx& tx) {
    return !tx.exec_params(
                  "INSERT INTO netbox_writers (pool, holder, until) VALUES ($1, $2,"
                  " clock_timestamp() + $3::bigint * interval '1 millisecond')"
                  " ON CONFLICT (pool) DO UPDATE SET holder = excluded.holder,"
                  " until = excluded.until WHERE netbox_writers.until <= clock_timestamp()"
                  " OR netbox_writers.holder = excluded.holder RETURNING 1",
                  pool, holder, static_cast<std::int64_t>(lease.count()))
                .empty();
  });
}

void Ledger::release_writer(const std::string& pool, const std::string& holder) {
  store_->as_owner([&](Tx& tx) {
    tx.exec_params("DELETE FROM netbox_writers WHERE pool = $1 AND holder = $2", pool, holder);
    return true;
  });
}

void Ledger::note_netbox_health(const ports::NetboxHealth& health) {
  store_->as_owner([&](Tx& tx) {
    tx.exec_params(
        "INSERT INTO netbox_health (worker, breaker, failures, detail) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (worker) DO UPDATE SET breaker = excluded.breaker,"
        " failures = excluded.failures, detail = excluded.detail, at = clock_timestamp()",
        health.worker, health.breaker, health.failures, health.detail);
    tx.exec("DELETE FROM netbox_health WHERE at < clock_timestamp() - interval '1 day'");
    return true;
  });
}

// --- pools and NetBox ----------------------------------------------------------------------------

void must_be_open(Tx& tx, const Settings& settings, const Pool& pool) {
  if (!settings.netbox) {
    if (pool.netbox_mode != "authoritative") return;
    throw LedgerError{
        ErrorCode::kNetboxFailed,
        fmt::format("pool {} is authoritative, and NetBox is not configured", pool.name)};
  }
  const bool missing =
      tx.exec_params(
            "SELECT netbox_mode <> 'off' AND netbox_imported_at IS NULL FROM ip_pools"
            " WHERE id = $1::uuid",
            pool.id)[0][0]
          .as<bool>();
  if (missing) {
    throw LedgerError{ErrorCode::kNoSuchPool,
                      fmt::format("pool {} starts once what NetBox holds in it is imported"
                                  " (addrflow netbox import {})",
                                  pool.name, pool.name)};
  }
}

LedgerError behind_netbox(const Pool& pool) {
  return LedgerError{
      ErrorCode::kInvalidArgument,
      fmt::format("update_netbox is false, and NetBox decides over pool {}", pool.name)};
}

NetboxPool Ledger::netbox_pool(const std::string& tenant, const std::string& name) {
  return store_->as_owner([&](Tx& tx) {
    const auto found = tx.exec_params(
        "SELECT p.id::text, p.tenant_id, p.pool_name, p.family, p.prefix::text, p.netbox_mode,"
        " coalesce(p.netbox_prefix_id, 0), coalesce(d.netbox_vrf_id, 0),"
        " coalesce(p.netbox_imported_at::text, '') FROM ip_pools p"
        " JOIN routing_domains d ON d.id = p.routing_domain_id"
        " WHERE ($1 = '' OR p.tenant_id = $1) AND (p.pool_name = $2 OR p.id::text = lower($2))"
        " LIMIT 2",
        tenant, name);
    if (found.empty())
      throw LedgerError{ErrorCode::kNoSuchPool, "pool: there is no such pool: " + name};
    if (found.size() > 1)
      throw LedgerError{ErrorCode::kAmbiguousPool, "pool: several tenants have one: " + name};
    const auto& row = found[0];
    return NetboxPool{.id = row[0].c_str(),
                      .tenant = row[1].c_str(),
                      .name = row[2].c_str(),
                      .family = row[3].c_str(),
                      .prefix = row[4].c_str(),
                      .mode = row[5].c_str(),
                      .netbox_prefix_id = row[6].as<std::int64_t>(),
                      .vrf_id = row[7].as<std::int64_t>(),
                      .imported_at = row[8].c_str()};
  });
}

ImportReport Ledger::import_netbox(const NetboxPool& pool, std::int64_t netbox_prefix_id,
                                   const std::vector<Occupied>& occupied, bool dry_run) {
  return store_->as_owner([&](Tx& tx) {
    ImportReport report;
    for (const Occupied& object : occupied) {
      if (is_known(tx, pool, object)) {
        ++report.ours;
        continue;
      }
      const Space space = space_of(tx, pool, object);
      if (!space.inside) continue;
      const bool ipv4 = pool.family == "ipv4";
      if (space.around && (!ipv4 || !object.cidr.empty())) {
        // A prefix that the pool lies in is its place; a range that wide cannot be said exactly.
        if (object.cidr.empty()) report.conflicts.push_back("not blocked: " + object.what);
        continue;
      }
      const Blocking done = ipv4 ? block_ipv4(tx, pool, space, object.what, dry_run)
                                 : block_prefix(tx, pool, space, object.what, dry_run);
      report.blocked += done.blocked;
      for (const std::string& held : done.held) {
        report.conflicts.push_back(fmt::format("{} is held by a line, and {}", held, object.what));
      }
    }
    if (!dry_run) {
      tx.exec_params(
          "UPDATE ip_pools SET netbox_imported_at = clock_timestamp(),"
          " netbox_prefix_id = coalesce(nullif($2::bigint, 0), netbox_prefix_id),"
          " updated_at = clock_timestamp() WHERE id = $1::uuid",
          pool.id, netbox_prefix_id);
    }
    return report;
  });
}

std::vector<NetboxRow> Ledger::netbox_rows(const NetboxScope& scope) {
  if (scope.subscriber.empty() && scope.address.empty() && scope.pool.empty())
    throw LedgerError{ErrorCode::kInvalidArgument, "name an address, a subscriber or a pool"};
  return store_->as_owner([&](Tx& tx) {
    std::vector<NetboxRow> rows;
    for (const auto& row : tx.exec_params(
             fmt::format(
                 "SELECT r.id, r.tenant_id, r.subscriber_id, r.service, r.lifecycle_state::text"
                 " FROM ip_reservations r JOIN ip_pools p ON p.id = r.pool_id"
                 " WHERE p.netbox_mode <> 'off' AND {}"
                 " AND ($1 = '' OR r.tenant_id = $1) AND ($2 = '' OR r.subscriber_id = $2)"
                 " AND ($3 = '' OR r.ip_address = nullif($3, '')::inet)"
                 " AND ($4 = '' OR p.pool_name = $4 OR p.id::text = lower($4)) ORDER BY r.id",
                 kHoldsSpace),
             scope.tenant, scope.subscriber, scope.address, scope.pool)) {
      NetboxRow& one = rows.emplace_back();
      one.row_id = row[0].as<std::int64_t>();
      one.service.set_tenant_id(row[1].c_str());
      one.service.set_subscriber_id(row[2].c_str());
      one.service.set_service(row[3].c_str());
      one.state = row[4].c_str();
      one.action = action_for(one.state);
      // The row is there: this transaction has just read it.
      one.wish = netbox_wish(one.service, read_netbox_facts(tx, one.row_id).value(), one.action);
    }
    return rows;
  });
}

void Ledger::mirror_again(const NetboxRow& row) {
  store_->as_tenant(row.service.tenant_id(), [&](Tx& tx) {
    const auto head = read_head(tx, row.service, Lock::kYes);
    const auto now = tx.exec_params(
        fmt::format("SELECT r.lifecycle_state::text FROM ip_reservations r WHERE r.id = $1 AND {}",
                    kHoldsSpace),
        row.row_id);
    // Moved, or given back, since it was looked at: that move has written its own wish.
    if (!head || now.empty() || row.state != now[0][0].c_str()) return false;
    // A person asks for it, whatever the last operation left alone.
    const auto facts = read_netbox_facts(tx, row.row_id).value();
    plan_effect(tx, row.service, head->id, head->last_operation, head->number, "netbox", row.action,
                facts.key, netbox_wish(row.service, facts, row.action));
    return true;
  });
}

NetboxStatus Ledger::netbox_status() {
  return store_->in_snapshot([&](Tx& tx) {
    NetboxStatus status;
    for (const auto& row :
         tx.exec("SELECT e.action, e.status, count(*), min(e.planned_at)::text FROM effects e"
                 " WHERE e.system = 'netbox' AND e.status IN ('planned', 'sent', 'unknown',"
                 " 'refused') GROUP BY 1, 2 ORDER BY 1, 2")) {
      status.backlog.push_back({.action = row[0].c_str(),
                                .status = row[1].c_str(),
                                .effects = row[2].as<std::int64_t>(),
                                .oldest = row[3].c_str()});
    }
    for (const auto& row : tx.exec("SELECT worker, breaker, failures, detail, at::text"
                                   " FROM netbox_health ORDER BY worker")) {
      status.health.push_back({.worker = row[0].c_str(),
                               .breaker = row[1].c_str(),
                               .failures = row[2].as<std::int64_t>(),
                               .detail = row[3].c_str(),
                               .at = row[4].c_str()});
    }
    return status;
  });
}

}  // namespace addrflow::ledger
