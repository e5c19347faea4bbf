// A service gets its space: picked, written down as held, and wished for in NetBox.
#include <fmt/format.h>
#include <addrflow/domain/ids.hpp>
#include <addrflow/ledger/ledger.hpp>

#include "allocator.hpp"
#include "rows.hpp"
#include "store.hpp"

namespace addrflow::ledger {
namespace {

Picked take_up_again(Tx& tx, const Row& row, const Wish& wish, std::int64_t operation) {
  if (!wish.requested.empty() && wish.requested != row.address) {
    const char* field =
        wish.family == domain::kFamilyIpv4 ? "requested_address" : "requested_prefix";
    throw LedgerError{ErrorCode::kConflict,
                      std::string{field} + " differs from the space still held: " + row.address};
  }
  close_holding(tx, row.holding_id, operation, "taken up again", 0);
  tx.exec_params(
      "UPDATE ip_reservations SET lifecycle_state = 'revoked', updated_at = clock_timestamp(),"
      " lifecycle_revoked_at = coalesce(lifecycle_revoked_at, clock_timestamp()) WHERE id = $1",
      row.id);
  return pick_again(tx, row);
}

// Both families of one allocate are of one generation.
std::int64_t next_generation(Tx& tx, const Head& head, std::int64_t operation) {
  return tx
      .exec_params(
          "SELECT coalesce(max(generation), $3) FROM ip_reservations WHERE service_id = $1"
          " AND created_by_operation = $2",
          head.id, operation, head.generation + 1)[0][0]
      .as<std::int64_t>();
}

// The space that the line had leaves through the gate; its chapter is over, the line's goes on.
v1::EffectRef leave(Tx& tx, const ServiceRef& service, const Head& head, const Row& row,
                    const v1::Claim& claim) {
  tx.exec_params(
      "UPDATE holdings SET releasing = true, releasing_since = clock_timestamp()"
      " WHERE id = $1 AND upper_inf(period)",
      row.holding_id);
  tx.exec_params(
      "UPDATE ip_reservations SET lifecycle_state = 'revoked', updated_at = clock_timestamp(),"
      " lifecycle_revoked_at = clock_timestamp() WHERE id = $1",
      row.id);
  return plan_netbox(tx, service, head.id, claim.operation_id(), claim.number(), row.id,
                     "deprecate");
}

// The other space is in the state that the line is in.
void take_state(Tx& tx, std::int64_t id, const Row& former) {
  tx.exec_params(
      "UPDATE ip_reservations r SET lifecycle_state = $3::lifecyclestate,"
      " lifecycle_allocated_at = clock_timestamp(),"
      " lifecycle_activated_at = f.lifecycle_activated_at,"
      " lifecycle_suspended_at = f.lifecycle_suspended_at FROM ip_reservations f"
      " WHERE r.id = $1 AND f.id = $2",
      id, former.id, text(domain::to_string(former.state)));
}

// Whose place the new space takes. Where NetBox called an earlier one of this operation taken, that
// one is given up first.
Row instead_of(Tx& tx, const Head& head, const Row* row, std::int64_t operation,
               const std::string& former_nas, Wish& wish, std::int64_t& generation) {
  if (row == nullptr || !row->space_held)
    throw LedgerError{ErrorCode::kIllegalTransition, "readdress needs space that is held"};
  if (row->created_by_operation != operation) {
    stay_in_pool(tx, wish, *row, former_nas);
    return *row;
  }
  Row former = *row;
  const auto before = tx.exec_params(
      "SELECT r.id FROM ip_reservations r JOIN holdings h ON h.id = r.holding_id"
      " WHERE r.service_id = $1 AND r.family = $2 AND r.id <> $3 AND upper_inf(h.period)"
      " AND h.releasing ORDER BY r.generation DESC, r.id DESC LIMIT 1",
      head.id, row->family, row->id);
  if (before.empty()) throw LedgerError{ErrorCode::kInternal, "the former space is gone"};
  former.id = before[0][0].as<std::int64_t>();
  generation = row->generation;
  wish.pool = row->pool_id;
  if (wish.prefix_length == 0 && wish.family != domain::kFamilyIpv4)
    wish.prefix_length = mask_of(row->address);
  close_holding(tx, row->holding_id, operation, "taken in NetBox", 0);
  block_space(tx, row->pool_id, row->address, "taken in NetBox");
  tx.exec_params("DELETE FROM ip_reservations WHERE id = $1", row->id);
  return former;
}

std::int64_t insert_row(Tx& tx, const ServiceRef& service, const Wish& wish,
                        std::int64_t generation, const Picked& picked, std::int64_t holding,
                        const v1::ReserveRequest& request) {
  const std::string key = netbox_key(service, wish.family, picked.space);
  const nlohmann::json metadata{{"pool_id", picked.pool.id}, {"allocation_method", picked.method}};
  const auto made = tx.exec_params(
      "INSERT INTO ip_reservations (tenant_id, subscriber_id, service, service_id, family,"
      " generation, pool_id, ip_address, holding_id, netbox_key, created_by,"
      " created_by_operation, lifecycle_metadata) VALUES ($1, $2, $3, $4, $5, $6, $7::uuid,"
      " $8::inet, $9, $10, $11, $12, $13::jsonb) RETURNING id",
      service.tenant_id(), service.subscriber_id(), service.service(), wish.service_id, wish.family,
      generation, picked.pool.id, picked.space, holding, key, request.created_by(),
      request.claim().operation_id(), metadata.dump());
  tx.exec_params("UPDATE services SET generation = greatest(generation, $2) WHERE id = $1",
                 wish.service_id, generation);
  return made[0][0].as<std::int64_t>();
}

}  // namespace

void check_assignment_mode(Tx& tx, const ServiceRef& service) {
  if (service.service() != domain::kDefaultService) return;  // the profile is that line's
  const auto found = tx.exec_params(
      "SELECT ipv6_assignment_mode FROM subscriber_network_profiles WHERE tenant_id = $1"
      " AND subscriber_id = $2",
      service.tenant_id(), service.subscriber_id());
  if (found.empty()) return;
  const std::string mode = found[0][0].c_str();
  if (mode == "pd" || mode == "dual_stack") return;
  throw LedgerError{ErrorCode::kWrongAssignmentMode,
                    "ipv6_assignment_mode of the subscriber's profile is " + mode +
                        ": a delegated prefix needs pd or dual_stack"};
}

v1::ReserveReply Ledger::reserve(const v1::ReserveRequest& request) {
  const ServiceRef service = checked(request.claim().service());
  const std::string family = request.family().empty() ? "ipv4" : request.family();
  if (family != domain::kFamilyIpv4 && family != domain::kFamilyIpv6Pd)
    throw LedgerError{ErrorCode::kInvalidArgument, "family: there is no such family: " + family};
  const std::int64_t operation = request.claim().operation_id();
  const std::int64_t number = request.claim().number();
  const std::string step = fmt::format("reserve:{}:{}", family, request.avoid_size());

  return store_->as_tenant(service.tenant_id(), [&](Tx& tx) {
    guard(tx);
    const Head head = fenced_head(tx, request.claim());
    if (auto recorded = recorded_step<v1::ReserveReply>(tx, operation, step)) return *recorded;
    if (family == domain::kFamilyIpv6Pd) check_assignment_mode(tx, service);

    const auto rows = read_rows(tx, head.id);
    const Row* row = find_row(rows, family);
    Wish wish{.family = family,
              .prefix_length = request.prefix_length(),
              .pool = request.pool_id(),
              .requested = request.requested_address(),
              .service_id = head.id,
              .nas_ip = head.nas_ip};
    std::int64_t generation = next_generation(tx, head, operation);
    std::optional<Picked> again;
    std::optional<Row> former;
    v1::EffectRef left;
    if (request.instead()) {
      const FormerNames names = names_before(tx, service, operation);
      former = instead_of(tx, head, row, operation, names.nas_ip, wish, generation);
      if (row == nullptr || row->created_by_operation != operation)
        left = leave(tx, service, head, *former, request.claim());
    } else if (row != nullptr && row->created_by_operation == operation) {
      // NetBox calls it taken: it is blocked, and another one is picked in its place.
      generation = row->generation;
      close_holding(tx, row->holding_id, operation, "taken in NetBox", 0);
      block_space(tx, row->pool_id, row->address, "taken in NetBox");
      wish.pool = row->pool_id;
      tx.exec_params("DELETE FROM ip_reservations WHERE id = $1", row->id);
    } else if (row != nullptr && row->space_held) {
      // The same holder, before its space went back: it is taken up again.
      again = take_up_again(tx, *row, wish, operation);
    }
    if (!former && row != nullptr && row->state == State::kPending && !row->space_held) {
      // An imported row of what was released: the new generation takes its place.
      tx.exec_params(
          "UPDATE ip_reservations SET lifecycle_state = 'revoked', updated_at = clock_timestamp(),"
          " lifecycle_revoked_at = clock_timestamp() WHERE id = $1",
          row->id);
    }
    const bool exposed = again.has_value();
    const Picked picked = again ? *again : pick(tx, wish);
    if (settings_.netbox && !exposed) must_be_imported(tx, picked.pool);
    const std::int64_t holding =
        open_holding(tx, service, wish, generation, picked, operation, exposed);
    const std::int64_t id = insert_row(tx, service, wish, generation, picked, holding, request);

    if (former) take_state(tx, id, *former);

    v1::ReserveReply reply;
    *reply.mutable_former() = left;
    reply.set_address(picked.space);
    reply.set_pool(picked.pool.name);
    reply.set_generation(generation);
    reply.set_netbox_mode(picked.pool.netbox_mode);
    *reply.mutable_netbox() = plan_netbox(tx, service, head.id, operation, number, id, "reserve");
    (*reply.mutable_metadata())["pool_id"] = picked.pool.id;
    (*reply.mutable_metadata())["allocation_method"] = picked.method;
    write_audit(tx, service, "reserve", "", picked.space, picked.pool.id, "ok", picked.method);
    record_step(tx, service.tenant_id(), operation, step, reply);
    return reply;
  });
}

}  // namespace addrflow::ledger
