// Which address: the former one, the requested one, or the one that has been free for longest.
#include <fmt/format.h>
#include <addrflow/domain/ids.hpp>
#include <addrflow/domain/ipv4.hpp>
#include <addrflow/ledger/ledger.hpp>

#include "rows.hpp"
#include "store.hpp"

namespace addrflow::ledger {
namespace {

constexpr int kMostWaits =
    1'000;  // for rows that others have locked, before an allocation gives way

struct Picked {
  std::string address;
  std::string method;  // auto, requested, sticky
};

std::string picked_address(const pqxx::result& found) {
  return found.empty() ? std::string{} : std::string{found[0][0].c_str()};
}

std::string former_address(Tx& tx, const Pool& pool, std::int64_t service_id) {
  return picked_address(tx.exec_params(
      "SELECT host(address) FROM pool_addresses WHERE last_service_id = $1 AND pool_id = $2::uuid"
      " AND state = 'free' ORDER BY last_end DESC LIMIT 1 FOR UPDATE SKIP LOCKED",
      service_id, pool.id));
}

// Locked rows are passed over at first. Only when nothing else is left they are waited for, because
// their transactions may yet give them back: a pool is never called full on their account.
std::string next_free(Tx& tx, const Pool& pool) {
  const std::string sql =
      "SELECT host(address) FROM pool_addresses WHERE pool_id = $1::uuid AND state = 'free'"
      " AND free_after <= clock_timestamp() ORDER BY free_after, address LIMIT 1 FOR UPDATE";
  for (int i = 0; i < kMostWaits; ++i) {
    if (auto got = picked_address(tx.exec_params(sql + " SKIP LOCKED", pool.id)); !got.empty())
      return got;
    if (auto got = picked_address(tx.exec_params(sql, pool.id)); !got.empty()) return got;
    const bool left = tx.exec_params(
                            "SELECT EXISTS (SELECT 1 FROM pool_addresses WHERE pool_id = $1::uuid"
                            " AND state = 'free' AND free_after <= clock_timestamp())",
                            pool.id)[0][0]
                          .as<bool>();
    if (!left) throw LedgerError{ErrorCode::kPoolExhausted, "No available IP addresses"};
  }
  throw LedgerError{ErrorCode::kUnavailable, "the pool's last addresses are locked by others"};
}

Picked pick(Tx& tx, const Pool& pool, const std::string& requested, std::int64_t service_id) {
  if (!requested.empty()) {
    check_address(tx, pool, requested, service_id, Lock::kYes);
    return {requested, "requested"};
  }
  if (auto former = former_address(tx, pool, service_id); !former.empty())
    return {std::move(former), "sticky"};
  return {next_free(tx, pool), "auto"};
}

std::int64_t open_holding(Tx& tx, const ServiceRef& service, std::int64_t service_id,
                          const Pool& pool, const std::string& family, std::int64_t generation,
                          const std::string& address, std::int64_t operation, bool exposed) {
  const auto made = tx.exec_params(
      "INSERT INTO holdings (tenant_id, subscriber_id, service, service_id, family, generation,"
      " routing_domain_id, pool_id, space, period, opened_by, exposed)"
      " SELECT $1, $2, $3, $4, $5, $6, $7, $8::uuid, $9::inet,"
      " tstzrange(greatest(clock_timestamp(), a.last_end), NULL), $10, $11"
      " FROM pool_addresses a WHERE a.pool_id = $8::uuid AND a.address = $9::inet RETURNING id",
      service.tenant_id(), service.subscriber_id(), service.service(), service_id, family,
      generation, pool.domain, pool.id, address, operation, exposed);
  tx.exec_params(
      "UPDATE pool_addresses SET state = 'held' WHERE pool_id = $1::uuid AND address = $2::inet",
      pool.id, address);
  return made[0][0].as<std::int64_t>();
}

void block(Tx& tx, const Row& row) {
  tx.exec_params(
      "UPDATE pool_addresses SET state = 'blocked', why = 'taken in NetBox'"
      " WHERE pool_id = $1::uuid AND address = $2::inet",
      row.pool_id, row.address);
}

}  // namespace

Pool resolve_pool(Tx& tx, const std::string& wanted) {
  const auto found = tx.exec_params(
      "SELECT id::text, pool_name, netbox_mode, routing_domain_id FROM ip_pools"
      " WHERE family = 'ipv4' AND ($1 = '' OR id::text = lower($1) OR pool_name = $1)"
      " ORDER BY id LIMIT 2",
      wanted);
  if (found.empty()) {
    throw LedgerError{ErrorCode::kNoSuchPool,
                      wanted.empty() ? "ipv4_pool_id: the tenant has no pool"
                                     : "ipv4_pool_id: there is no such pool: " + wanted};
  }
  if (found.size() > 1)
    throw LedgerError{ErrorCode::kAmbiguousPool, "ipv4_pool_id must name one of several pools"};
  return {.id = found[0][0].c_str(),
          .name = found[0][1].c_str(),
          .netbox_mode = found[0][2].c_str(),
          .domain = found[0][3].as<std::int64_t>()};
}

void check_address(Tx& tx, const Pool& pool, const std::string& address, std::int64_t service_id,
                   Lock lock) {
  if (!domain::parse_ipv4(address)) {
    throw LedgerError{ErrorCode::kInvalidArgument,
                      "requested_address is no IPv4 address: " + address};
  }
  const auto found = tx.exec_params(
      "SELECT state, free_after <= clock_timestamp(), coalesce(last_service_id, 0), why"
      " FROM pool_addresses WHERE pool_id = $1::uuid AND address = $2::inet" +
          std::string{lock == Lock::kYes ? " FOR UPDATE" : ""},
      pool.id, address);
  if (found.empty()) {
    throw LedgerError{ErrorCode::kAddressOutsidePool,
                      fmt::format("requested_address {} is not in pool {}", address, pool.name)};
  }
  const std::string state = found[0][0].c_str();
  const bool mine = found[0][2].as<std::int64_t>() == service_id;
  if (state == "blocked") {
    throw LedgerError{ErrorCode::kAddressTaken, fmt::format("requested_address {} is blocked: {}",
                                                            address, found[0][3].c_str())};
  }
  if (state == "held") {
    throw LedgerError{ErrorCode::kAddressTaken,
                      fmt::format("requested_address {} is held", address)};
  }
  if (!found[0][1].as<bool>() && !mine) {
    throw LedgerError{ErrorCode::kAddressTaken,
                      fmt::format("requested_address {} is in quarantine", address)};
  }
}

v1::ReserveReply Ledger::reserve(const v1::ReserveRequest& request) {
  const ServiceRef service = checked(request.claim().service());
  const std::string family = request.family().empty() ? "ipv4" : request.family();
  if (family != domain::kFamilyIpv4)
    throw LedgerError{ErrorCode::kUnsupported, "family is not supported yet: " + family};
  const std::int64_t operation = request.claim().operation_id();
  const std::int64_t number = request.claim().number();
  const std::string step = fmt::format("reserve:{}:{}", family, request.avoid_size());

  return store_->as_tenant(service.tenant_id(), [&](Tx& tx) {
    const Head head = fenced_head(tx, request.claim());
    if (auto recorded = recorded_step<v1::ReserveReply>(tx, operation, step)) return *recorded;

    const auto rows = read_rows(tx, head.id);
    const Row* row = find_row(rows, family);
    std::string requested = request.requested_address();
    std::int64_t generation = head.generation + 1;
    bool exposed = false;
    Picked picked;
    Pool pool;
    if (row != nullptr && row->created_by_operation == operation) {
      // NetBox calls it taken: it is blocked, and another one is picked in its place.
      generation = row->generation;
      close_holding(tx, row->holding_id, operation, "taken in NetBox", 0);
      block(tx, *row);
      pool = resolve_pool(tx, row->pool_id);
      tx.exec_params("DELETE FROM ip_reservations WHERE id = $1", row->id);
    } else if (row != nullptr && row->space_held) {
      // The same holder, before its space went back: it is taken up again.
      pool = resolve_pool(tx, row->pool_id);
      if (!requested.empty() && requested != row->address) {
        throw LedgerError{ErrorCode::kConflict,
                          "requested_address differs from the space still held: " + row->address};
      }
      close_holding(tx, row->holding_id, operation, "taken up again", 0);
      exposed = true;
      requested = row->address;
      picked.method = "sticky";
      tx.exec_params(
          "UPDATE ip_reservations SET lifecycle_state = 'revoked', updated_at = clock_timestamp(),"
          " lifecycle_revoked_at = coalesce(lifecycle_revoked_at, clock_timestamp()) WHERE id = $1",
          row->id);
    }
    if (pool.id.empty()) pool = resolve_pool(tx, request.pool_id());
    const std::string method = picked.method;
    picked = pick(tx, pool, requested, head.id);
    if (!method.empty()) picked.method = method;

    const std::int64_t holding = open_holding(tx, service, head.id, pool, family, generation,
                                              picked.address, operation, exposed);
    // The same address again for the same service is the same NetBox object, adopted by its key.
    const std::string key =
        fmt::format("{}/{}/{}/{}/{}", service.tenant_id(), service.subscriber_id(),
                    service.service(), family, picked.address);
    const nlohmann::json metadata{{"pool_id", pool.id}, {"allocation_method", picked.method}};
    const auto made = tx.exec_params(
        "INSERT INTO ip_reservations (tenant_id, subscriber_id, service, service_id, family,"
        " generation, pool_id, ip_address, holding_id, netbox_key, created_by,"
        " created_by_operation, lifecycle_metadata) VALUES ($1, $2, $3, $4, $5, $6, $7::uuid,"
        " $8::inet, $9, $10, $11, $12, $13::jsonb) RETURNING id",
        service.tenant_id(), service.subscriber_id(), service.service(), head.id, family,
        generation, pool.id, picked.address, holding, key, request.created_by(), operation,
        metadata.dump());
    tx.exec_params("UPDATE services SET generation = greatest(generation, $2) WHERE id = $1",
                   head.id, generation);

    v1::ReserveReply reply;
    reply.set_address(picked.address);
    reply.set_pool(pool.name);
    reply.set_generation(generation);
    reply.set_netbox_mode(pool.netbox_mode);
    *reply.mutable_netbox() = plan_netbox(tx, service, head.id, operation, number,
                                          made[0][0].as<std::int64_t>(), "reserve");
    (*reply.mutable_metadata())["pool_id"] = pool.id;
    (*reply.mutable_metadata())["allocation_method"] = picked.method;
    write_audit(tx, service, "reserve", "", picked.address, pool.id, "ok", picked.method);
    record_step(tx, service.tenant_id(), operation, step, reply);
    return reply;
  });
}

}  // namespace addrflow::ledger
