// The daily look: finished rows go, what is stale or stuck is counted, what is due is woken.
#include <addrflow/domain/ids.hpp>
#include <addrflow/ledger/ledger.hpp>
#include <algorithm>

#include "rows.hpp"
#include "store.hpp"

namespace addrflow::ledger {
namespace {

constexpr int kBatch = 5'000;
constexpr int kMostWoken = 1'000;
constexpr int kMostErrorsInARow = 3;
constexpr std::int64_t kOlderThanS = 60;
constexpr int kMostAsked = 20'000;  // lines at their gates, in one run
constexpr std::size_t kAskedAtOnce = 1'000;
// A Stop is written a little after the moment that it names, which another clock has told.
constexpr std::chrono::seconds kStopMargin{30};

// The next pool after this one; empty: there is none. One at a time: a full pool of prefixes takes
// long, and all of them together longer than one statement may.
std::string roll_up_next(Tx& tx, const std::string& after) {
  const auto next = tx.exec_params(
      "SELECT id::text, chunk_length < delegated_length FROM ip_pools"
      " WHERE $1 = '' OR id > nullif($1, '')::uuid ORDER BY id LIMIT 1",
      after);
  if (next.empty()) return {};
  if (next[0][1].as<bool>()) tx.exec_params("SELECT join_space($1::uuid)", next[0][0].c_str());
  tx.exec_params("SELECT roll_up_pool($1::uuid)", next[0][0].c_str());
  return next[0][0].c_str();
}

// Where a walk over old rows stands, so that what must stay is not looked at again.
struct Cursor {
  std::string at = "-infinity";
  std::int64_t id = 0;
};

// Finished rows of services that nobody changes at this moment; what is locked waits for tomorrow.
const std::string kOld =
    " FROM ip_reservations r JOIN services s ON s.id = r.service_id"
    " WHERE r.family = $1 AND r.lifecycle_state = 'revoked'"
    " AND r.lifecycle_revoked_at < clock_timestamp() - $2::bigint * interval '1 hour'"
    " AND s.open_operation_id IS NULL"
    " AND NOT EXISTS (SELECT 1 FROM holdings h WHERE h.id = r.holding_id AND upper_inf(h.period))";

// Deletes up to a batch, and moves the cursor. The number of deleted rows; -1: nothing is left.
std::int64_t delete_batch(Tx& tx, const std::string& family, std::int64_t hours, Cursor& cursor) {
  const auto gone = tx.exec_params(
      "WITH old AS (SELECT r.id, r.lifecycle_revoked_at AS at" + kOld +
          " AND (r.lifecycle_revoked_at, r.id) > ($3::timestamptz, $4::bigint)"
          " ORDER BY r.lifecycle_revoked_at, r.id LIMIT $5 FOR UPDATE OF r, s SKIP LOCKED),"
          " gone AS (DELETE FROM ip_reservations USING old WHERE ip_reservations.id = old.id)"
          " SELECT at::text, id, count(*) OVER () FROM old ORDER BY at DESC, id DESC LIMIT 1",
      family, hours, cursor.at, cursor.id, kBatch);
  if (gone.empty()) return -1;
  cursor.at = gone[0][0].c_str();
  cursor.id = gone[0][1].as<std::int64_t>();
  return gone[0][2].as<std::int64_t>();
}

// The row of a subscriber stays: it holds VLAN, static addresses and what IPv6 the subscriber may
// have. What a prefix left in it is reset.
std::int64_t reset_profiles(Tx& tx, std::int64_t hours) {
  return static_cast<std::int64_t>(
      tx.exec_params(
            "UPDATE subscriber_network_profiles SET"
            " ipv6_prefix = NULL, ipv6_state = 'pending', ipv6_allocated_at = NULL,"
            " ipv6_activated_at = NULL, ipv6_suspended_at = NULL, ipv6_revoked_at = NULL,"
            " ipv6_netbox_prefix_id = NULL WHERE id IN (SELECT p.id"
            " FROM subscriber_network_profiles p WHERE p.ipv6_state = 'revoked'"
            " AND p.ipv6_revoked_at < clock_timestamp() - $1::bigint * interval '1 hour'"
            // Space of it that is still held keeps its columns.
            " AND NOT EXISTS (SELECT 1 FROM services s JOIN holdings h ON h.service_id = s.id"
            "   AND upper_inf(h.period) AND h.family = 'ipv6_pd'"
            "   WHERE s.tenant_id = p.tenant_id AND s.subscriber_id = p.subscriber_id)"
            // And so does a row that the cleanup has left.
            " AND NOT EXISTS (SELECT 1 FROM services s JOIN ip_reservations r"
            "   ON r.service_id = s.id AND r.family = 'ipv6_pd'"
            "   WHERE s.tenant_id = p.tenant_id AND s.subscriber_id = p.subscriber_id)"
            " ORDER BY p.ipv6_revoked_at LIMIT $2 FOR UPDATE OF p SKIP LOCKED)",
            hours, kBatch)
          .affected_rows());
}

void count(Tx& tx, const std::string& family, const Settings& settings, v1::CleanupResult& result) {
  const auto seen = tx.exec_params(
      std::string{"SELECT (SELECT count(*) FROM ip_reservations r WHERE r.family = $1 AND "} +
          kAllocatedTooLong +
          "), (SELECT count(*) FROM ip_reservations WHERE family = $1"
          " AND lifecycle_state = 'revoking'"
          " AND revoking_since < clock_timestamp() - $3::bigint * interval '1 hour')",
      family, static_cast<std::int64_t>(settings.stale_allocated.count()),
      static_cast<std::int64_t>(settings.stuck_revoking.count()));
  result.set_allocated_stale(seen[0][0].as<std::int64_t>());
  result.set_revoking_stuck(seen[0][1].as<std::int64_t>());
}

bool same(const ServiceRef& one, const ServiceRef& other) {
  return one.tenant_id() == other.tenant_id() && one.subscriber_id() == other.subscriber_id() &&
         one.service() == other.service();
}

std::vector<ServiceRef> services_of(const pqxx::result& rows) {
  std::vector<ServiceRef> services;
  for (const auto& row : rows) {
    ServiceRef& service = services.emplace_back();
    service.set_tenant_id(row[0].c_str());
    service.set_subscriber_id(row[1].c_str());
    service.set_service(row[2].c_str());
  }
  return services;
}

// What looks at its gate by now more seldom than the catch-up comes by, and whose session it waits
// for.
struct AtGates {
  std::vector<ServiceRef> services;
  std::vector<ports::Waiting> waiting;  // of the service in the same place
};

AtGates at_gates(Tx& tx, std::int64_t older_s) {
  const auto rows = tx.exec_params(
      "SELECT s.tenant_id, s.subscriber_id, s.service, n, extract(epoch FROM w.looked_at)::bigint"
      " FROM (SELECT h.service_id, min(h.looked_at) AS looked_at FROM holdings h"
      "   WHERE h.releasing AND upper_inf(h.period) AND NOT h.kept AND h.looked_at IS NOT NULL"
      "   AND h.releasing_since < clock_timestamp() - 4 * $1::bigint * interval '1 second'"
      "   GROUP BY h.service_id ORDER BY random() LIMIT $2) w"
      " JOIN services s ON s.id = w.service_id,"
      " unnest(former_names(s.id) || coalesce(nullif(s.username, ''), s.subscriber_id)) n",
      older_s, kMostAsked);
  AtGates found{.services = services_of(rows), .waiting = {}};
  for (const auto& row : rows) {
    found.waiting.push_back({.username = row[3].c_str(),
                             .since = std::chrono::system_clock::time_point{
                                 std::chrono::seconds{row[4].as<std::int64_t>()} - kStopMargin}});
  }
  return found;
}

// Those whose session has ended since they looked.
std::vector<ServiceRef> with_ended_sessions(const AtGates& gates,
                                            ports::SessionDirectory& sessions) {
  std::vector<ServiceRef> ended;
  for (std::size_t from = 0; from < gates.waiting.size(); from += kAskedAtOnce) {
    const auto first = gates.waiting.begin() + static_cast<std::ptrdiff_t>(from);
    const auto many = std::min(kAskedAtOnce, gates.waiting.size() - from);
    for (const std::size_t place :
         sessions.ended({first, first + static_cast<std::ptrdiff_t>(many)})) {
      const ServiceRef& service = gates.services[from + place];
      // The names of one service stand side by side.
      if (ended.empty() || !same(ended.back(), service)) ended.push_back(service);
    }
  }
  return ended;
}

// What the catch-up wakes. NetBox' effects have a catch-up of their own, which needs no service to
// be open.
const std::string kDue =
    std::string{
        "WITH effect AS (SELECT DISTINCT e.service_id FROM effects e JOIN services s"
        "   ON s.id = e.service_id AND e.number = s.number WHERE "} +
    kUnconfirmed +
    "   AND e.system IN ('aaa', 'radius') AND e.not_before <= clock_timestamp()"
    "   AND e.updated_at < clock_timestamp() - greatest($1::bigint * 1000,"
    "     coalesce((e.reply->>'retry_after_ms')::bigint, 0)) * interval '1 millisecond'),"
    " gate AS (SELECT DISTINCT h.service_id FROM holdings h WHERE h.releasing"
    "   AND upper_inf(h.period) AND NOT h.kept"
    "   AND h.releasing_since < clock_timestamp() - $1::bigint * interval '1 second'"
    // Its service looks by itself, ever more seldom (poll_after): two looks were left out.
    "   AND coalesce(h.looked_at, h.releasing_since) < clock_timestamp()"
    "     - greatest($1::bigint * interval '1 second', 2 * least($2::bigint * interval"
    "     '1 millisecond', (clock_timestamp() - h.releasing_since) / 4))),"
    " due AS (SELECT service_id FROM effect UNION SELECT service_id FROM gate) ";

// Stuck revocations are completed by their own workflows, through the gate.
std::vector<ServiceRef> stuck_services(Tx& tx, const std::string& family, std::int64_t hours) {
  return services_of(tx.exec_params(
      "SELECT DISTINCT tenant_id, subscriber_id, service FROM (SELECT * FROM ip_reservations"
      " WHERE family = $1 AND lifecycle_state = 'revoking'"
      " AND revoking_since < clock_timestamp() - $2::bigint * interval '1 hour'"
      " ORDER BY revoking_since LIMIT $3) r",
      family, hours, kMostWoken));
}

}  // namespace

v1::CleanupResult Ledger::cleanup(const v1::CleanupRequest& request, const v1::CleanupResult& done,
                                  const std::function<void(const v1::CleanupResult&)>& beat) {
  const std::string family = request.family().empty() ? "ipv4" : request.family();
  if (family != domain::kFamilyIpv4 && family != domain::kFamilyIpv6Pd)
    throw LedgerError{ErrorCode::kInvalidArgument, "family: no such family: " + family};
  const auto hours = static_cast<std::int64_t>(settings_.keep_revoked.count());
  v1::CleanupResult result = done;
  const auto count_now = [&] {
    store_->in_snapshot([&](Tx& tx) {
      count(tx, family, settings_, result);
      if (request.dry_run())
        result.set_revoked_deleted(
            tx.exec_params("SELECT count(*)" + kOld, family, hours)[0][0].as<std::int64_t>());
      return true;
    });
  };
  if (request.dry_run()) {
    count_now();
    return result;
  }
  // A batch that a lock or a broken connection spoiled is counted, and tried again by the next.
  int errors_in_a_row = 0;
  const auto batches = [&](const auto& one) {
    for (bool more = true; more;) {
      try {
        more = one();
        errors_in_a_row = 0;
      } catch (const LedgerError& error) {
        result.set_errors(result.errors() + 1);
        if (!error.retryable() || ++errors_in_a_row >= kMostErrorsInARow) throw;
      }
      if (beat) beat(result);
    }
  };
  Cursor cursor;
  batches([&] {
    Cursor next;
    const auto deleted = store_->as_owner([&](Tx& tx) {
      next = cursor;
      return delete_batch(tx, family, hours, next);
    });
    cursor = next;
    if (deleted > 0) result.set_revoked_deleted(result.revoked_deleted() + deleted);
    return deleted >= 0;
  });
  if (family == domain::kFamilyIpv6Pd) {
    batches([&] {
      return store_->as_owner([&](Tx& tx) { return reset_profiles(tx, hours) == kBatch; });
    });
  }
  std::string pool;
  batches([&] {
    pool = store_->as_owner([&](Tx& tx) { return roll_up_next(tx, pool); });
    return !pool.empty();
  });
  count_now();
  if (waker_ != nullptr) {
    const auto stuck = store_->in_snapshot([&](Tx& tx) {
      return stuck_services(tx, family,
                            static_cast<std::int64_t>(settings_.stuck_revoking.count()));
    });
    for (const ServiceRef& service : stuck) {
      if (!waker_->wake(service)) result.set_errors(result.errors() + 1);
    }
  }
  return result;
}

// Accounting that cannot be reached keeps nobody else waiting: whoever waits looks by itself,
// later.
std::vector<ServiceRef> Ledger::ended_sessions(std::int64_t older_s, v1::CatchUpResult& result) {
  if (sessions_ == nullptr) return {};
  const AtGates gates = store_->in_snapshot([&](Tx& tx) { return at_gates(tx, older_s); });
  std::vector<ServiceRef> ended;
  try {
    ended = with_ended_sessions(gates, *sessions_);
  } catch (const std::exception&) {
    result.set_errors(result.errors() + 1);
  }
  result.set_gates_due(result.gates_due() + static_cast<std::int64_t>(ended.size()));
  return ended;
}

v1::CatchUpResult Ledger::catch_up(const v1::CatchUpRequest& request,
                                   const std::function<void(const v1::CatchUpResult&)>& beat) {
  if (request.most() < 0) throw LedgerError{ErrorCode::kInvalidArgument, "most: is negative"};
  if (request.older_than_s() < 0)
    throw LedgerError{ErrorCode::kInvalidArgument, "older_than_s: is negative"};
  const std::int64_t most =
      request.most() == 0 ? kMostWoken : std::min<std::int64_t>(request.most(), 100'000);
  const std::int64_t older = request.older_than_s() == 0 ? kOlderThanS : request.older_than_s();
  const auto seldom =
      std::max<std::int64_t>(settings_.pace.gate_poll_ms(), settings_.pace.gate_poll_max_ms());
  v1::CatchUpResult result;
  std::vector<ServiceRef> due;
  store_->in_snapshot([&](Tx& tx) {
    const auto counted =
        tx.exec_params(kDue +
                           "SELECT (SELECT count(*) FROM effect), (SELECT count(*) FROM gate),"
                           " (SELECT count(*) FROM due)",
                       older, seldom);
    result.set_effects_due(counted[0][0].as<std::int64_t>());
    result.set_gates_due(counted[0][1].as<std::int64_t>());
    const auto all = counted[0][2].as<std::int64_t>();
    result.set_left(all);
    if (request.dry_run()) return true;
    // By chance, so that what stays due keeps nobody else waiting for ever.
    due =
        services_of(tx.exec_params(kDue + "SELECT s.tenant_id, s.subscriber_id, s.service FROM due"
                                          " JOIN services s ON s.id = due.service_id"
                                          " ORDER BY random() LIMIT $3",
                                   older, seldom, most));
    result.set_left(all - static_cast<std::int64_t>(due.size()));
    return true;
  });
  std::vector<ServiceRef> woken = ended_sessions(older, result);
  if (waker_ == nullptr || request.dry_run()) return result;
  if (woken.size() > static_cast<std::size_t>(most)) woken.resize(static_cast<std::size_t>(most));
  woken.insert(woken.end(), due.begin(), due.end());
  for (const ServiceRef& service : woken) {
    if (waker_->wake(service)) {
      result.set_woken(result.woken() + 1);
    } else {
      result.set_errors(result.errors() + 1);
    }
    if (beat && (result.woken() + result.errors()) % 50 == 0) beat(result);
  }
  return result;
}

v1::Empty Ledger::record(const v1::AuditRequest& request) {
  const ServiceRef service = checked(request.service());
  return store_->as_tenant(service.tenant_id(), [&](Tx& tx) {
    write_audit(tx, service, request.event(), request.actor(), "", "", request.code(),
                request.detail());
    return v1::Empty{};
  });
}

}  // namespace addrflow::ledger
