// The daily look: finished rows go, what is stale or stuck is counted, what is due is woken.
#include <addrflow/ledger/ledger.hpp>

#include "rows.hpp"
#include "store.hpp"

namespace addrflow::ledger {
namespace {

constexpr int kMostWoken = 1'000;

std::vector<ServiceRef> due_services(Tx& tx) {
  std::vector<ServiceRef> due;
  for (const auto& row : tx.exec_params(
           "SELECT DISTINCT s.tenant_id, s.subscriber_id, s.service FROM services s"
           " JOIN effects e ON e.service_id = s.id WHERE e.status IN ('planned', 'sent', 'unknown')"
           " AND e.not_before <= clock_timestamp()"
           " AND (e.number = s.number OR e.system = 'netbox') LIMIT $1",
           kMostWoken)) {
    ServiceRef& service = due.emplace_back();
    service.set_tenant_id(row[0].c_str());
    service.set_subscriber_id(row[1].c_str());
    service.set_service(row[2].c_str());
  }
  return due;
}

void roll_up_pools(Tx& tx) {
  tx.exec(
      "UPDATE ip_pools p SET total_addresses = c.total, assigned_count = c.held,"
      " available_count = c.free, updated_at = clock_timestamp()"
      " FROM (SELECT pool_id, count(*) FILTER (WHERE state <> 'blocked') AS total,"
      " count(*) FILTER (WHERE state = 'held') AS held,"
      " count(*) FILTER (WHERE state = 'free' AND free_after <= clock_timestamp()) AS free"
      " FROM pool_addresses GROUP BY pool_id) c WHERE c.pool_id = p.id");
}

}  // namespace

v1::CleanupResult Ledger::cleanup(const v1::CleanupRequest& request) {
  const std::string family = request.family().empty() ? "ipv4" : request.family();
  if (family != "ipv4")
    throw LedgerError{ErrorCode::kUnsupported, "family is not supported yet: " + family};
  std::vector<ServiceRef> due;
  const v1::CleanupResult result = store_->as_owner([&](Tx& tx) {
    v1::CleanupResult counted;
    const std::string old =
        " FROM ip_reservations r WHERE r.family = $1 AND r.lifecycle_state = 'revoked'"
        " AND r.lifecycle_revoked_at < clock_timestamp() - $2::bigint * interval '1 hour'"
        " AND NOT EXISTS (SELECT 1 FROM holdings h WHERE h.id = r.holding_id"
        "                 AND upper_inf(h.period))"
        " AND NOT EXISTS (SELECT 1 FROM services s WHERE s.id = r.service_id"
        "                 AND s.open_operation_id IS NOT NULL)";
    const auto hours = static_cast<std::int64_t>(settings_.keep_revoked.count());
    if (request.dry_run()) {
      counted.set_revoked_deleted(
          tx.exec_params("SELECT count(*)" + old, family, hours)[0][0].as<std::int64_t>());
    } else {
      counted.set_revoked_deleted(
          static_cast<std::int64_t>(tx.exec_params("DELETE" + old, family, hours).affected_rows()));
    }
    const auto seen = tx.exec_params(
        "SELECT count(*) FILTER (WHERE lifecycle_state = 'allocated' AND lifecycle_allocated_at"
        " < clock_timestamp() - $2::bigint * interval '1 hour'),"
        " count(*) FILTER (WHERE lifecycle_state = 'revoking' AND revoking_since"
        " < clock_timestamp() - $3::bigint * interval '1 hour')"
        " FROM ip_reservations WHERE family = $1 AND lifecycle_state IN ('allocated', 'revoking')",
        family, static_cast<std::int64_t>(settings_.stale_allocated.count()),
        static_cast<std::int64_t>(settings_.stuck_revoking.count()));
    counted.set_allocated_stale(seen[0][0].as<std::int64_t>());
    counted.set_revoking_stuck(seen[0][1].as<std::int64_t>());
    if (!request.dry_run()) roll_up_pools(tx);
    due = due_services(tx);
    return counted;
  });
  if (waker_ != nullptr && !request.dry_run()) {
    for (const ServiceRef& service : due) waker_->wake(service);
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
