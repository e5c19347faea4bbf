// Which address: the former one, the requested one, or the one that has been free for longest.
#include <fmt/format.h>
#include <addrflow/domain/ids.hpp>
#include <addrflow/domain/ipv4.hpp>
#include <addrflow/domain/ipv6.hpp>
#include <addrflow/ledger/ledger.hpp>

#include "rows.hpp"
#include "store.hpp"

namespace addrflow::ledger {
namespace {

constexpr int kMostWaits =
    1'000;  // for rows that others have locked, before an allocation gives way

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

const char* pool_field(std::string_view family) {
  return family == domain::kFamilyIpv4 ? "ipv4_pool_id" : "ipv6_pool_id";
}

Pool resolve_pool(Tx& tx, const std::string& family, const std::string& wanted) {
  const std::string field = pool_field(family);
  const auto found = tx.exec_params(
      "SELECT id::text, pool_name, netbox_mode, routing_domain_id FROM ip_pools"
      " WHERE family = $2 AND ($1 = '' OR id::text = lower($1) OR pool_name = $1)"
      " ORDER BY id LIMIT 2",
      wanted, family);
  if (found.empty()) {
    throw LedgerError{ErrorCode::kNoSuchPool,
                      field + (wanted.empty() ? ": the tenant has no pool"
                                              : ": there is no such pool: " + wanted)};
  }
  if (found.size() > 1)
    throw LedgerError{ErrorCode::kAmbiguousPool, field + " must name one of several pools"};
  return {.id = found[0][0].c_str(),
          .name = found[0][1].c_str(),
          .netbox_mode = found[0][2].c_str(),
          .domain = found[0][3].as<std::int64_t>()};
}

// Throws unless `address` can be handed out to this service now.
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

int delegation(const Wish& wish) {
  return wish.prefix_length == 0 ? domain::kDefaultDelegation : wish.prefix_length;
}

bool prefix_is_free(Tx& tx, const Pool& pool, const std::string& prefix, std::int64_t service_id) {
  return tx
      .exec_params(
          "SELECT NOT EXISTS (SELECT 1 FROM holdings h JOIN ip_pools p ON p.id = h.pool_id"
          " WHERE h.routing_domain_id = $1 AND h.space && $2::inet AND (upper_inf(h.period) OR"
          " (h.service_id <> $3 AND upper(h.period) + p.quarantine_s * interval '1 second'"
          "  > clock_timestamp())))",
          pool.domain, prefix, service_id)[0][0]
      .as<bool>();
}

void check_prefix(Tx& tx, const Pool& pool, const Wish& wish) {
  const bool inside = tx.exec_params("SELECT prefix >>= $2::inet FROM ip_pools WHERE id = $1::uuid",
                                     pool.id, wish.requested)[0][0]
                          .as<bool>();
  if (!inside) {
    throw LedgerError{
        ErrorCode::kAddressOutsidePool,
        fmt::format("requested_prefix {} is not in pool {}", wish.requested, pool.name)};
  }
  if (!prefix_is_free(tx, pool, wish.requested, wish.service_id))
    throw LedgerError{ErrorCode::kAddressTaken,
                      fmt::format("requested_prefix {} is held or in quarantine", wish.requested)};
}

std::string next_prefix(Tx& tx, const Pool& pool, const Wish& wish) {
  constexpr std::uint32_t kMostLooks = 4'096;
  tx.exec_params("SELECT pg_advisory_xact_lock(hashtextextended($1, 13))", pool.id);
  const std::string whole =
      tx.exec_params("SELECT prefix::text FROM ip_pools WHERE id = $1::uuid", pool.id)[0][0]
          .c_str();
  const domain::Ipv6Prefix range = domain::parse_ipv6_prefix(whole).value();
  const int length = delegation(wish);
  const int bits = std::min(length - range.length, 30);
  for (std::uint32_t i = 0; bits >= 0 && i < std::min(kMostLooks, 1U << bits); ++i) {
    domain::Ipv6Prefix one{range.network, length};
    for (int bit = 0; bit < bits; ++bit) {
      const int at = length - 1 - bit;
      if ((i >> bit & 1U) != 0)
        one.network.bytes[static_cast<std::size_t>(at / 8)] |=
            static_cast<std::uint8_t>(0x80 >> (at % 8));
    }
    std::string text = domain::to_string(one);
    if (prefix_is_free(tx, pool, text, wish.service_id)) return text;
  }
  throw LedgerError{ErrorCode::kPoolExhausted, "No available IP addresses"};
}

std::string former_prefix(Tx& tx, const Pool& pool, const Wish& wish) {
  const auto found = picked_address(tx.exec_params(
      "SELECT abbrev(space) FROM holdings WHERE service_id = $1 AND pool_id = $2::uuid"
      " AND NOT upper_inf(period) AND masklen(space) = $3 ORDER BY upper(period) DESC LIMIT 1",
      wish.service_id, pool.id, delegation(wish)));
  return found.empty() || !prefix_is_free(tx, pool, found, wish.service_id) ? std::string{} : found;
}

std::int64_t open_holding(Tx& tx, const ServiceRef& service, const Wish& wish,
                          std::int64_t generation, const Picked& picked, std::int64_t operation,
                          bool exposed) {
  const auto made = tx.exec_params(
      "INSERT INTO holdings (tenant_id, subscriber_id, service, service_id, family, generation,"
      " routing_domain_id, pool_id, space, period, opened_by, exposed)"
      " SELECT $1, $2, $3, $4, $5, $6, $7, $8::uuid, $9::inet,"
      " tstzrange(greatest(clock_timestamp(), (SELECT max(upper(h.period)) FROM holdings h"
      "   WHERE h.service_id = $4 AND h.space = $9::inet AND NOT upper_inf(h.period)),"
      "   (SELECT a.last_end FROM pool_addresses a WHERE a.pool_id = $8::uuid"
      "   AND a.address = $9::inet)), NULL), $10, $11 RETURNING id",
      service.tenant_id(), service.subscriber_id(), service.service(), wish.service_id, wish.family,
      generation, picked.pool.domain, picked.pool.id, picked.space, operation, exposed);
  tx.exec_params(
      "UPDATE pool_addresses SET state = 'held' WHERE pool_id = $1::uuid AND address = $2::inet",
      picked.pool.id, picked.space);
  return made[0][0].as<std::int64_t>();
}

void block(Tx& tx, const Row& row) {
  tx.exec_params(
      "UPDATE pool_addresses SET state = 'blocked', why = 'taken in NetBox'"
      " WHERE pool_id = $1::uuid AND address = $2::inet",
      row.pool_id, row.address);
}

void take_up_again(Tx& tx, const Row& row, Wish& wish, std::int64_t operation) {
  if (!wish.requested.empty() && wish.requested != row.address) {
    const char* field =
        wish.family == domain::kFamilyIpv4 ? "requested_address" : "requested_prefix";
    throw LedgerError{ErrorCode::kConflict,
                      std::string{field} + " differs from the space still held: " + row.address};
  }
  close_holding(tx, row.holding_id, operation, "taken up again", 0);
  wish.pool = row.pool_id;
  wish.requested = row.address;
  tx.exec_params(
      "UPDATE ip_reservations SET lifecycle_state = 'revoked', updated_at = clock_timestamp(),"
      " lifecycle_revoked_at = coalesce(lifecycle_revoked_at, clock_timestamp()) WHERE id = $1",
      row.id);
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

std::int64_t insert_row(Tx& tx, const ServiceRef& service, const Wish& wish,
                        std::int64_t generation, const Picked& picked, std::int64_t holding,
                        const v1::ReserveRequest& request) {
  // The same space again for the same service is the same NetBox object, adopted by its key.
  const std::string key =
      fmt::format("{}/{}/{}/{}/{}", service.tenant_id(), service.subscriber_id(), service.service(),
                  wish.family, picked.space);
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

void check_requested(Tx& tx, const Wish& wish) {
  const Pool pool = resolve_pool(tx, wish.family, wish.pool);
  if (wish.requested.empty()) return;
  if (wish.family == domain::kFamilyIpv4) {
    check_address(tx, pool, wish.requested, wish.service_id, Lock::kNo);
  } else {
    check_prefix(tx, pool, wish);
  }
}

Picked pick(Tx& tx, const Wish& wish) {
  const Pool pool = resolve_pool(tx, wish.family, wish.pool);
  const bool ipv4 = wish.family == domain::kFamilyIpv4;
  if (!wish.requested.empty()) {
    if (ipv4) check_address(tx, pool, wish.requested, wish.service_id, Lock::kYes);
    if (!ipv4) check_prefix(tx, pool, wish);
    return {pool, wish.requested, "requested"};
  }
  auto former = ipv4 ? former_address(tx, pool, wish.service_id) : former_prefix(tx, pool, wish);
  if (!former.empty()) return {pool, std::move(former), "sticky"};
  return {pool, ipv4 ? next_free(tx, pool) : next_prefix(tx, pool, wish), "auto"};
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
              .service_id = head.id};
    std::int64_t generation = next_generation(tx, head, operation);
    std::string method;
    if (row != nullptr && row->created_by_operation == operation) {
      // NetBox calls it taken: it is blocked, and another one is picked in its place.
      generation = row->generation;
      close_holding(tx, row->holding_id, operation, "taken in NetBox", 0);
      block(tx, *row);
      wish.pool = row->pool_id;
      tx.exec_params("DELETE FROM ip_reservations WHERE id = $1", row->id);
    } else if (row != nullptr && row->space_held) {
      // The same holder, before its space went back: it is taken up again.
      take_up_again(tx, *row, wish, operation);
      method = "sticky";
    }
    if (row != nullptr && row->state == State::kPending && !row->space_held) {
      // An imported row of what was released: the new generation takes its place.
      tx.exec_params(
          "UPDATE ip_reservations SET lifecycle_state = 'revoked', updated_at = clock_timestamp(),"
          " lifecycle_revoked_at = clock_timestamp() WHERE id = $1",
          row->id);
    }
    Picked picked = pick(tx, wish);
    const bool exposed = !method.empty();
    if (!method.empty()) picked.method = method;
    const std::int64_t holding =
        open_holding(tx, service, wish, generation, picked, operation, exposed);
    const std::int64_t id = insert_row(tx, service, wish, generation, picked, holding, request);

    v1::ReserveReply reply;
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
