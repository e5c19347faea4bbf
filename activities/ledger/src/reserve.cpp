// A service gets its space: picked, written down as held, and wished for in NetBox.
#include <fmt/format.h>
#include <addrflow/domain/ids.hpp>
#include <addrflow/ledger/ledger.hpp>

#include "allocator.hpp"
#include "rows.hpp"
#include "store.hpp"

namespace addrflow::ledger {
namespace {

Picked take_up_again(Tx& tx, const Row& row, std::int64_t operation) {
  close_holding(tx, row.holding_id, operation, "taken up again", 0);
  tx.exec_params(
      "UPDATE ip_reservations SET lifecycle_state = 'revoked', updated_at = clock_timestamp(),"
      " lifecycle_revoked_at = coalesce(lifecycle_revoked_at, clock_timestamp()) WHERE id = $1",
      row.id);
  return pick_again(tx, row);
}

// The same holder gets other space: what it had goes on its way out, also where it was kept for it.
void leave_behind(Tx& tx, const Row& row) {
  tx.exec_params(
      "UPDATE holdings SET kept = false, releasing = true,"
      " releasing_since = coalesce(releasing_since, clock_timestamp())"
      " WHERE id = $1 AND upper_inf(period)",
      row.holding_id);
  tx.exec_params(
      "UPDATE ip_reservations SET lifecycle_state = 'revoked', updated_at = clock_timestamp(),"
      " lifecycle_revoked_at = coalesce(lifecycle_revoked_at, clock_timestamp()) WHERE id = $1",
      row.id);
}

// What was kept for the line is not any more once it has other space.
void keep_no_other(Tx& tx, std::int64_t service_id, const std::string& family,
                   std::int64_t holding_id) {
  tx.exec_params(
      "UPDATE holdings SET kept = false WHERE service_id = $1 AND family = $2 AND id <> $3"
      " AND kept AND releasing AND upper_inf(period)",
      service_id, family, holding_id);
}

// NetBox was asked for other space: whether the line takes up what it holds is decided.
bool wants_other(const v1::ReserveRequest& request) {
  return request.taken_effect() != 0 || request.netbox_asked() || !request.exhausted().empty();
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
void leave(Tx& tx, const Row& row) {
  tx.exec_params(
      "UPDATE holdings SET releasing = true, releasing_since = clock_timestamp()"
      " WHERE id = $1 AND upper_inf(period)",
      row.holding_id);
  tx.exec_params(
      "UPDATE ip_reservations SET lifecycle_state = 'revoked', updated_at = clock_timestamp(),"
      " lifecycle_revoked_at = clock_timestamp() WHERE id = $1",
      row.id);
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

// An object that NetBox made has the key under which it was asked for, and keeps it while the line
// has the space, again and again.
std::string object_key(Tx& tx, const ServiceRef& service, const Wish& wish, const Picked& picked) {
  const auto known = tx.exec_params(
      "SELECT netbox_key FROM ip_reservations WHERE service_id = $1 AND ip_address = $2::inet"
      " AND netbox_key <> '' ORDER BY id DESC LIMIT 1",
      wish.service_id, picked.space);
  return known.empty() ? netbox_key(service, wish.family, picked.space) : known[0][0].c_str();
}

std::int64_t insert_row(Tx& tx, const ServiceRef& service, const Wish& wish,
                        std::int64_t generation, const Picked& picked, std::int64_t holding,
                        const std::string& key, const v1::ReserveRequest& request) {
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

std::string step_of(const v1::ReserveRequest& request, const std::string& family) {
  std::string step = fmt::format("reserve:{}:{}", family, request.avoid_size());
  if (!request.exhausted().empty()) step += fmt::format(":exhausted-{}", request.exhausted_size());
  if (request.netbox_asked()) step += ":asked";
  if (request.taken_effect() != 0) step += fmt::format(":taken-{}", request.taken_effect());
  return step;
}

// What NetBox refused and something else takes the place of is not waited for. Without a key: where
// it was to pick.
void refused_no_more(Tx& tx, const Head& head, std::int64_t operation, const std::string& key) {
  tx.exec_params(
      "UPDATE effects SET status = 'superseded', updated_at = clock_timestamp()"
      " WHERE service_id = $1 AND operation_id = $2 AND system = 'netbox' AND status = 'refused'"
      " AND (object = $3 OR ($3 = '' AND action = 'take'))",
      head.id, operation, key);
}

// --- where NetBox picks --------------------------------------------------------------------------

struct Taken {
  std::int64_t effect_id = 0;
  std::string key;
  std::string pool_id;
  std::string space;
  std::int64_t netbox_id = 0;
  nlohmann::json wish;
};

std::optional<Taken> taken_in(Tx& tx, const v1::ReserveRequest& request, const Head& head) {
  if (request.taken_effect() == 0) return std::nullopt;
  const auto found = tx.exec_params(
      "SELECT object, wish::text, coalesce(reply->>'space', ''),"
      " coalesce((reply->>'netbox_id')::bigint, 0) FROM effects WHERE id = $1 AND service_id = $2"
      " AND operation_id = $3 AND action = 'take' AND status = 'confirmed'",
      request.taken_effect(), head.id, request.claim().operation_id());
  if (found.empty() || found[0][2].c_str() == std::string{}) {
    throw LedgerError{ErrorCode::kInternal, "taken_effect: NetBox has confirmed no such effect"};
  }
  const auto& row = found[0];
  auto wish = nlohmann::json::parse(row[1].c_str());
  return Taken{.effect_id = request.taken_effect(),
               .key = row[0].c_str(),
               .pool_id = wish.value("pool_id", ""),
               .space = row[2].c_str(),
               .netbox_id = row[3].as<std::int64_t>(),
               .wish = std::move(wish)};
}

// The ledger may know better: what it excludes, lets rest or has given to somebody stays so.
std::optional<Picked> have(Tx& tx, const Taken& taken, Wish wish, v1::ReserveReply& reply) {
  wish.pool = taken.pool_id;
  wish.requested = taken.space;
  wish.netbox_picks = false;
  try {
    Picked picked = pick(tx, wish);
    picked.method = "netbox";
    return picked;
  } catch (const LedgerError& error) {
    if (error.code() != ErrorCode::kAddressTaken && error.code() != ErrorCode::kAddressOutsidePool)
      throw;
    reply.set_refused(error.what());
    return std::nullopt;
  }
}

// The object goes again with the next catch-up: the line is not kept waiting for it.
void give_back(Tx& tx, const ServiceRef& service, const v1::Claim& claim, const Taken& taken) {
  nlohmann::json wish = taken.wish;
  wish["netbox_id"] = taken.netbox_id;
  static_cast<void>(plan_effect(tx, service, read_head(tx, service, Lock::kNo)->id,
                                claim.operation_id(), claim.number(), "netbox", "release",
                                taken.key, wish));
}

v1::EffectRef ask_netbox(Tx& tx, const ServiceRef& service, const v1::Claim& claim,
                         const Wish& wish, const Pool& pool) {
  const auto row = tx.exec_params(
      "SELECT masklen(p.prefix), coalesce(d.netbox_vrf_id, 0), coalesce(p.netbox_prefix_id, 0),"
      " gen_random_uuid()::text FROM ip_pools p JOIN routing_domains d"
      " ON d.id = p.routing_domain_id WHERE p.id = $1::uuid",
      pool.id)[0];
  const bool ipv4 = wish.family == domain::kFamilyIpv4;
  const int delegated = wish.prefix_length > 0 ? wish.prefix_length : pool.delegated_length;
  // Its space is not known yet: a key of its own, that no later request can meet again.
  const NetboxFacts facts{.mode = pool.netbox_mode,
                          .key = netbox_key(service, wish.family, row[3].c_str()),
                          .space = "",
                          .family = wish.family,
                          .state = "pending",
                          .prefix_length = ipv4 ? row[0].as<int>() : delegated,
                          .vrf_id = row[1].as<std::int64_t>(),
                          .pool_id = pool.id,
                          .pool_netbox_id = row[2].as<std::int64_t>()};
  if (facts.pool_netbox_id == 0) {
    throw LedgerError{ErrorCode::kNoSuchPool,
                      fmt::format("pool {} is authoritative: NetBox must hold its prefix"
                                  " (addrflow netbox import {})",
                                  pool.name, pool.name)};
  }
  return plan_effect(tx, service, wish.service_id, claim.operation_id(), claim.number(), "netbox",
                     "take", facts.key, netbox_wish(service, facts, "take"));
}

void note_taken(Tx& tx, std::int64_t row_id, const Taken& taken, v1::ReserveReply& reply) {
  tx.exec_params("UPDATE ip_reservations SET netbox_ip_id = $2 WHERE id = $1", row_id,
                 taken.netbox_id);
  reply.mutable_netbox()->set_effect_id(taken.effect_id);
  reply.mutable_netbox()->set_system("netbox");
  reply.mutable_netbox()->set_action("take");
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
  const std::string step = step_of(request, family);

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
              .nas_ip = nas_address(tx, head.nas_ip),
              .exhausted = {request.exhausted().begin(), request.exhausted().end()},
              .netbox_picks = settings_.netbox && !request.netbox_asked()};
    std::int64_t generation = next_generation(tx, head, operation);
    std::optional<Picked> again;
    std::optional<Row> former;
    std::optional<Row> left;
    bool leaves = false;  // once there is other space
    if (request.instead()) {
      const FormerNames names = names_before(tx, service, operation);
      former = instead_of(tx, head, row, operation, names.nas_ip, wish, generation);
      leaves = row == nullptr || row->created_by_operation != operation;
    } else if (row != nullptr && row->created_by_operation == operation) {
      // NetBox calls it taken: it is blocked, and another one is picked in its place.
      generation = row->generation;
      close_holding(tx, row->holding_id, operation, "taken in NetBox", 0);
      block_space(tx, row->pool_id, row->address, "taken in NetBox");
      wish.pool = row->pool_id;
      const auto gone =
          tx.exec_params("DELETE FROM ip_reservations WHERE id = $1 RETURNING netbox_key", row->id);
      refused_no_more(tx, head, operation, gone[0][0].c_str());
    } else if (row != nullptr && row->space_held) {
      // The same holder, before its space went back: it is taken up again where it serves.
      if (!wants_other(request) && takes_up_again(tx, *row, wish)) {
        again = take_up_again(tx, *row, operation);
      } else {
        left = *row;
      }
    }
    if (!former && row != nullptr && row->state == State::kPending && !row->space_held) {
      // An imported row of what was released: the new generation takes its place.
      tx.exec_params(
          "UPDATE ip_reservations SET lifecycle_state = 'revoked', updated_at = clock_timestamp(),"
          " lifecycle_revoked_at = clock_timestamp() WHERE id = $1",
          row->id);
    }
    if (!request.exhausted().empty()) refused_no_more(tx, head, operation, "");
    const bool exposed = again.has_value();
    const std::optional<Taken> taken = taken_in(tx, request, head);
    v1::ReserveReply reply;
    const auto found = [&]() -> std::optional<Picked> {
      if (again) return again;
      return taken ? have(tx, *taken, wish, reply) : std::optional{pick(tx, wish)};
    }();
    if (!found) {
      give_back(tx, service, request.claim(), *taken);
      record_step(tx, service.tenant_id(), operation, step, reply);
      return reply;
    }
    const Picked& picked = *found;
    if (!exposed && !taken) {
      must_be_open(tx, settings_, picked.pool);
      if (picked.pool.netbox_mode == "authoritative" && leaves_netbox_alone(tx, head.id, operation))
        throw behind_netbox(picked.pool);
    }
    reply.set_pool(picked.pool.name);
    reply.set_netbox_mode(picked.pool.netbox_mode);
    (*reply.mutable_metadata())["pool_id"] = picked.pool.id;
    (*reply.mutable_metadata())["allocation_method"] = picked.method;
    if (picked.space.empty()) {
      reply.set_netbox_picks(true);
      *reply.mutable_netbox() = ask_netbox(tx, service, request.claim(), wish, picked.pool);
      record_step(tx, service.tenant_id(), operation, step, reply);
      return reply;
    }
    if (leaves) leave(tx, *former);
    if (left) leave_behind(tx, *left);
    const std::int64_t holding =
        open_holding(tx, service, wish, generation, picked, operation, exposed);
    keep_no_other(tx, head.id, family, holding);
    const std::string key = taken ? taken->key : object_key(tx, service, wish, picked);
    const std::int64_t id =
        insert_row(tx, service, wish, generation, picked, holding, key, request);
    if (former) take_state(tx, id, *former);
    reply.set_address(picked.space);
    reply.set_generation(generation);
    if (taken) {
      note_taken(tx, id, *taken, reply);
    } else {
      *reply.mutable_netbox() = plan_netbox(tx, service, head.id, operation, number, id, "reserve");
    }
    // After the new one, in the catch-up too: the line is never without an object in NetBox.
    if (leaves) {
      *reply.mutable_former() =
          plan_netbox(tx, service, head.id, operation, number, former->id, "deprecate");
    }
    write_audit(tx, service, "reserve", "", picked.space, picked.pool.id, "ok", picked.method);
    record_step(tx, service.tenant_id(), operation, step, reply);
    return reply;
  });
}

}  // namespace addrflow::ledger
