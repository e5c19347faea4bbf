#include "allocator.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <addrflow/domain/ids.hpp>
#include <addrflow/domain/ipv4.hpp>
#include <addrflow/domain/ipv6.hpp>
#include <algorithm>

namespace addrflow::ledger {
namespace {

constexpr int kMostWaits =
    1'000;  // for rows that others have locked, before an allocation gives way
constexpr std::size_t kMostPools = 64;  // in one wish

bool is_ipv4(const Wish& wish) { return wish.family == domain::kFamilyIpv4; }
const char* pool_field(const Wish& wish) { return is_ipv4(wish) ? "ipv4_pool_id" : "ipv6_pool_id"; }
const char* space_field(const Wish& wish) {
  return is_ipv4(wish) ? "requested_address" : "requested_prefix";
}

struct Candidate {
  Pool pool;
  std::string group;
  bool draining = false;
  bool anywhere = false;  // it is no site's own
  bool here = false;      // it is of the NAS that the wish names
};

std::vector<std::string> refs_of(const Wish& wish) {
  std::vector<std::string> refs;
  for (std::size_t from = 0; !wish.pool.empty() && from <= wish.pool.size();) {
    const std::size_t comma = std::min(wish.pool.find(',', from), wish.pool.size());
    refs.push_back(wish.pool.substr(from, comma - from));
    from = comma + 1;
  }
  if (refs.size() > kMostPools) {
    throw LedgerError{ErrorCode::kInvalidArgument,
                      fmt::format("{} names more than {} pools", pool_field(wish), kMostPools)};
  }
  return refs;
}

// By row-level security: those that the tenant was granted.
std::vector<Candidate> candidates(Tx& tx, const Wish& wish) {
  std::vector<Candidate> found;
  for (const auto& row : tx.exec_params(
           "SELECT p.id::text, p.pool_name, p.netbox_mode, p.routing_domain_id, p.delegated_length,"
           " p.chunk_length, p.pool_group, p.draining,"
           " NOT EXISTS (SELECT 1 FROM pool_nas n WHERE n.pool_id = p.id),"
           " EXISTS (SELECT 1 FROM pool_nas n WHERE n.pool_id = p.id"
           "  AND host(n.nas_ip) = $2) FROM ip_pools p WHERE p.family = $1"
           " ORDER BY p.priority, p.pool_name, p.id",
           wish.family, wish.nas_ip)) {
    found.push_back({.pool = {.id = row[0].c_str(),
                              .name = row[1].c_str(),
                              .netbox_mode = row[2].c_str(),
                              .domain = row[3].as<std::int64_t>(),
                              .delegated_length = row[4].as<int>(),
                              .chunk_length = row[5].as<int>()},
                     .group = row[6].c_str(),
                     .draining = row[7].as<bool>(),
                     .anywhere = row[8].as<bool>(),
                     .here = row[9].as<bool>()});
  }
  return found;
}

std::vector<Candidate> named(const std::vector<Candidate>& all, const Wish& wish,
                             const std::string& ref) {
  std::vector<Candidate> pools;
  std::ranges::copy_if(all, std::back_inserter(pools), [&](const Candidate& candidate) {
    return candidate.pool.id == ref || candidate.pool.name == ref;
  });
  if (pools.size() > 1) {
    throw LedgerError{ErrorCode::kAmbiguousPool,
                      fmt::format("{}: several pools are called {}", pool_field(wish), ref)};
  }
  if (pools.empty() && !ref.empty()) {
    std::ranges::copy_if(all, std::back_inserter(pools),
                         [&](const Candidate& candidate) { return candidate.group == ref; });
  }
  if (pools.empty()) {
    throw LedgerError{ErrorCode::kNoSuchPool,
                      fmt::format("{}: there is no such pool: {}", pool_field(wish), ref)};
  }
  return pools;
}

std::vector<Candidate> unnamed(const std::vector<Candidate>& all, const Wish& wish) {
  std::vector<Candidate> pools;
  const auto open = [&](bool Candidate::* where) {
    std::ranges::copy_if(all, std::back_inserter(pools), [&](const Candidate& candidate) {
      return candidate.*where && !candidate.draining;
    });
  };
  open(&Candidate::here);
  if (pools.empty()) open(&Candidate::anywhere);
  if (pools.empty()) {
    throw LedgerError{
        ErrorCode::kNoSuchPool,
        fmt::format("{}: the tenant has no pool{}", pool_field(wish),
                    all.empty() ? "" : " that is open; name one, or the nas_ip of a site's own")};
  }
  const std::string& group = pools.front().group;
  const bool one_choice =
      pools.size() == 1 || (!group.empty() && std::ranges::all_of(pools, [&](const Candidate& c) {
        return c.group == group;
      }));
  if (!one_choice) {
    throw LedgerError{ErrorCode::kAmbiguousPool,
                      fmt::format("{} must name one of several pools", pool_field(wish))};
  }
  return pools;
}

int length_of(const Wish& wish, const Pool& pool) {
  return wish.prefix_length == 0 || is_ipv4(wish) ? pool.delegated_length : wish.prefix_length;
}

// Why the pool cannot serve the wish; empty: it can.
std::string unfit(const Candidate& candidate, const Wish& wish) {
  const Pool& pool = candidate.pool;
  if (candidate.draining)
    return fmt::format("{}: pool {} is draining", pool_field(wish), pool.name);
  if (!candidate.anywhere && !candidate.here)
    return fmt::format("nas_ip: pool {} belongs to other NAS", pool.name);
  const int length = length_of(wish, pool);
  const bool mixed = pool.chunk_length < pool.delegated_length;
  if (mixed ? length < pool.chunk_length || length > domain::kLongestDelegation
            : length != pool.delegated_length) {
    return fmt::format(
        "ipv6_pd_size: pool {} delegates {}, not /{}", pool.name,
        mixed ? fmt::format("/{} to /{}", pool.chunk_length, domain::kLongestDelegation)
              : fmt::format("/{}", pool.delegated_length),
        length);
  }
  return {};
}

bool means(const std::vector<Candidate>& all, const Wish& wish, const std::string& pool_id) {
  const auto refs = refs_of(wish);
  bool among = refs.empty();
  for (const std::string& ref : refs) {
    const auto pools = named(all, wish, ref);
    among = among || std::ranges::any_of(pools, [&](const Candidate& candidate) {
              return candidate.pool.id == pool_id;
            });
  }
  return among;
}

// Why the space, which the line still holds, does not serve the wish; empty: it does. Who asks for
// it by its address gets it also where nobody else would.
std::string misfit(Tx& tx, const Row& held, const Wish& wish) {
  const auto all = candidates(tx, wish);
  const auto own = std::ranges::find_if(
      all, [&](const Candidate& candidate) { return candidate.pool.id == held.pool_id; });
  if (own == all.end()) {
    return fmt::format("{}: {} is of a pool that is not the tenant's any more", pool_field(wish),
                       held.address);
  }
  const std::string& name = own->pool.name;
  if (!means(all, wish, held.pool_id)) {
    return fmt::format("{}: {}, which is still held, is of pool {}", pool_field(wish), held.address,
                       name);
  }
  if (!wish.nas_ip.empty() && !own->anywhere && !own->here) {
    return fmt::format("nas_ip: pool {} of {}, which is still held, belongs to other NAS", name,
                       held.address);
  }
  if (!wish.requested.empty()) return {};
  if (own->draining) return fmt::format("{}: pool {} is draining", pool_field(wish), name);
  const bool excluded =
      !tx.exec_params(
             "SELECT 1 FROM pool_exclusions WHERE pool_id = $1::uuid AND space && $2::inet LIMIT 1",
             held.pool_id, held.address)
           .empty();
  return excluded ? fmt::format("{} is excluded", held.address) : std::string{};
}

// The wish with the length that its requested prefix has.
Wish checked_wish(Wish wish) {
  if (wish.requested.empty()) return wish;
  if (is_ipv4(wish)) {
    if (!domain::parse_ipv4(wish.requested)) {
      throw LedgerError{ErrorCode::kInvalidArgument,
                        "requested_address is no IPv4 address: " + wish.requested};
    }
    return wish;
  }
  const auto prefix = domain::check_delegated_prefix("requested_prefix", wish.requested);
  if (!prefix) throw LedgerError{ErrorCode::kInvalidArgument, prefix.error().message};
  wish.requested = *prefix;
  const int length = mask_of(wish.requested);
  if (wish.prefix_length != 0 && wish.prefix_length != length) {
    throw LedgerError{ErrorCode::kInvalidArgument,
                      fmt::format("requested_prefix {} is not as long as ipv6_pd_size /{}",
                                  wish.requested, wish.prefix_length)};
  }
  wish.prefix_length = length;
  return wish;
}

struct Answer {
  std::string verdict;
  std::string rested;
  std::string why;
};

Answer ask_for(Tx& tx, const Pool& pool, const Wish& wish, bool take) {
  const auto row = tx.exec_params(
      "SELECT verdict, coalesce(rested::text, ''), coalesce(why, '')"
      " FROM request_space($1::uuid, $2, $3::inet, $4)",
      pool.id, wish.service_id, wish.requested, take)[0];
  return {row[0].c_str(), row[1].c_str(), row[2].c_str()};
}

[[noreturn]] void refuse_space(const Wish& wish, const Pool& pool, const Answer& answer) {
  const std::string space = fmt::format("{} {}", space_field(wish), wish.requested);
  if (answer.verdict == "outside") {
    throw LedgerError{ErrorCode::kAddressOutsidePool,
                      fmt::format("{} is not in pool {}", space, pool.name)};
  }
  const std::string why = answer.verdict == "blocked"      ? "blocked: " + answer.why
                          : answer.verdict == "excluded"   ? "excluded: " + answer.why
                          : answer.verdict == "quarantine" ? "in quarantine"
                          : answer.verdict == "parts"      ? "divided, and parts of it are not free"
                                                           : "held";
  throw LedgerError{ErrorCode::kAddressTaken, fmt::format("{} is {}", space, why)};
}

// Of several pools: the one that the space lies in.
Picked requested_space(Tx& tx, const std::vector<Pool>& pools, const Wish& wish, bool take) {
  for (const Pool& pool : pools) {
    const Answer answer = ask_for(tx, pool, wish, take);
    if (answer.verdict == "ok") return {pool, wish.requested, "requested", answer.rested};
    if (answer.verdict != "outside" || &pool == &pools.back()) refuse_space(wish, pool, answer);
  }
  throw LedgerError{ErrorCode::kInternal, "a wish without pools"};
}

// Locked rows are passed over at first. Only when nothing else is left they are waited for, because
// their transactions may yet give them back: a pool is never called full on their account.
std::optional<Picked> take_from(Tx& tx, const Pool& pool, const Wish& wish) {
  for (int i = 0; i < kMostWaits; ++i) {
    const bool patient = i % 2 == 1;
    const auto row = tx.exec_params(
        "SELECT abbrev(space), rested::text, method, busy"
        " FROM take_space($1::uuid, $2, $3, $4, $5)",
        pool.id, wish.service_id, length_of(wish, pool), pool.chunk_length, patient)[0];
    if (!row[0].is_null()) return Picked{pool, row[0].c_str(), row[2].c_str(), row[1].c_str()};
    if (!row[3].as<bool>()) return std::nullopt;
  }
  throw LedgerError{ErrorCode::kUnavailable, "the pool's last addresses are locked by others"};
}

// Only what the line had before comes from here: in NetBox it may still stand, as deprecated.
Picked left_to_netbox(Tx& tx, const Pool& pool, Wish wish) {
  const auto former = tx.exec_params(
      "SELECT abbrev(address) FROM pool_addresses WHERE last_service_id = $1 AND pool_id = $2::uuid"
      " AND state = 'free' AND masklen(address) = $3 ORDER BY last_end DESC LIMIT 1",
      wish.service_id, pool.id, length_of(wish, pool));
  if (!former.empty()) {
    wish.requested = former[0][0].c_str();
    const Answer answer = ask_for(tx, pool, wish, true);
    if (answer.verdict == "ok") return {pool, wish.requested, "sticky", answer.rested};
  }
  return {.pool = pool, .space = {}, .method = "netbox", .rested = {}};
}

}  // namespace

std::vector<Pool> pools_for(Tx& tx, const Wish& wish) {
  const auto all = candidates(tx, wish);
  std::vector<Candidate> wanted;
  const auto refs = refs_of(wish);
  for (const std::string& ref : refs) {
    for (Candidate& candidate : named(all, wish, ref)) wanted.push_back(std::move(candidate));
  }
  if (refs.empty()) wanted = unnamed(all, wish);
  std::vector<Pool> pools;
  std::string why;
  for (const Candidate& candidate : wanted) {
    if (std::ranges::find(wish.exhausted, candidate.pool.id) != wish.exhausted.end()) continue;
    std::string no = unfit(candidate, wish);
    if (no.empty()) pools.push_back(candidate.pool);
    if (why.empty()) why = std::move(no);
  }
  if (pools.empty() && !wish.exhausted.empty())
    throw LedgerError{ErrorCode::kPoolExhausted, "No available IP addresses"};
  if (pools.empty()) {
    const bool draining = std::ranges::any_of(wanted, &Candidate::draining);
    throw LedgerError{draining ? ErrorCode::kPoolExhausted : ErrorCode::kInvalidArgument, why};
  }
  return pools;
}

int mask_of(const std::string& prefix) { return std::stoi(prefix.substr(prefix.find('/') + 1)); }

void check_requested(Tx& tx, const Wish& raw) {
  const Wish wish = checked_wish(raw);
  const auto pools = pools_for(tx, wish);
  if (!wish.requested.empty()) requested_space(tx, pools, wish, false);
}

void stay_in_pool(Tx& tx, Wish& wish, const Row& held, const std::string& former_nas) {
  if (!wish.pool.empty() || !wish.requested.empty() || wish.nas_ip != former_nas) return;
  const auto own = tx.exec_params(
      "SELECT coalesce(nullif(pool_group, ''), id::text) FROM ip_pools"
      " WHERE id = $1::uuid AND NOT draining",
      held.pool_id);
  if (own.empty()) return;
  wish.pool = own[0][0].c_str();
  if (wish.prefix_length == 0 && !is_ipv4(wish)) wish.prefix_length = mask_of(held.address);
}

bool means_pool(Tx& tx, const Wish& wish, const std::string& pool_id) {
  return wish.pool.empty() || means(candidates(tx, wish), wish, pool_id);
}

bool takes_up_again(Tx& tx, const Row& held, const Wish& wish) {
  if (!wish.requested.empty() && wish.requested != held.address) {
    throw LedgerError{ErrorCode::kConflict, fmt::format("{} differs from the space still held: {}",
                                                        space_field(wish), held.address)};
  }
  const std::string why = misfit(tx, held, wish);
  if (!why.empty() && !wish.requested.empty()) {
    throw LedgerError{ErrorCode::kConflict, fmt::format("{}: without {} the line gets other space",
                                                        why, space_field(wish))};
  }
  return why.empty();
}

Picked pick(Tx& tx, const Wish& raw) {
  const Wish wish = checked_wish(raw);
  const auto pools = pools_for(tx, wish);
  if (!wish.requested.empty()) return requested_space(tx, pools, wish, true);
  for (const Pool& pool : pools) {
    if (wish.netbox_picks && pool.netbox_mode == "authoritative")
      return left_to_netbox(tx, pool, wish);
    if (auto picked = take_from(tx, pool, wish)) return *std::move(picked);
  }
  throw LedgerError{ErrorCode::kPoolExhausted, "No available IP addresses"};
}

Picked peek(Tx& tx, const Wish& raw) {
  const Wish wish = checked_wish(raw);
  const auto pools = pools_for(tx, wish);
  if (!wish.requested.empty()) return requested_space(tx, pools, wish, false);
  for (const Pool& pool : pools) {
    const auto row =
        tx.exec_params("SELECT abbrev(space), method FROM peek_space($1::uuid, $2, $3, $4)",
                       pool.id, wish.service_id, length_of(wish, pool), pool.chunk_length)[0];
    if (!row[0].is_null())
      return {.pool = pool, .space = row[0].c_str(), .method = row[1].c_str(), .rested = {}};
  }
  throw LedgerError{ErrorCode::kPoolExhausted, "No available IP addresses"};
}

namespace {

Picked picked_again(const pqxx::row& row, const Row& held) {
  return {.pool = {.id = held.pool_id,
                   .name = row[0].c_str(),
                   .netbox_mode = row[1].c_str(),
                   .domain = row[2].as<std::int64_t>(),
                   .delegated_length = row[3].as<int>(),
                   .chunk_length = row[4].as<int>()},
          .space = held.address,
          .method = "sticky",
          .rested = row[5].c_str()};
}

constexpr const char* kPoolColumns =
    "p.pool_name, p.netbox_mode, p.routing_domain_id, p.delegated_length, p.chunk_length,"
    " a.last_end::text";

}  // namespace

Picked pick_again(Tx& tx, const Row& held) {
  return picked_again(
      tx.exec_params(fmt::format("UPDATE pool_addresses a SET state = 'held' FROM ip_pools p"
                                 " WHERE a.pool_id = $1::uuid AND a.address = $2::inet"
                                 " AND p.id = a.pool_id RETURNING {}",
                                 kPoolColumns),
                     held.pool_id, held.address)[0],
      held);
}

Picked peek_again(Tx& tx, const Row& held) {
  return picked_again(tx.exec_params(fmt::format("SELECT {} FROM pool_addresses a JOIN ip_pools p"
                                                 " ON p.id = a.pool_id WHERE a.pool_id = $1::uuid"
                                                 " AND a.address = $2::inet",
                                                 kPoolColumns),
                                     held.pool_id, held.address)[0],
                      held);
}

std::int64_t open_holding(Tx& tx, const ServiceRef& service, const Wish& wish,
                          std::int64_t generation, const Picked& picked, std::int64_t operation,
                          bool exposed) {
  return tx
      .exec_params(
          "INSERT INTO holdings (tenant_id, subscriber_id, service, service_id, family, generation,"
          " routing_domain_id, pool_id, space, period, opened_by, exposed)"
          " VALUES ($1, $2, $3, $4, $5, $6, $7, $8::uuid, $9::inet,"
          " tstzrange(greatest(clock_timestamp(), $12::timestamptz), NULL), $10, $11) RETURNING id",
          service.tenant_id(), service.subscriber_id(), service.service(), wish.service_id,
          wish.family, generation, picked.pool.domain, picked.pool.id, picked.space, operation,
          exposed, picked.rested)[0][0]
      .as<std::int64_t>();
}

void close_holding(Tx& tx, std::int64_t holding_id, std::int64_t operation,
                   const std::string& evidence, std::int64_t quarantine_s) {
  const auto closed = tx.exec_params(
      "UPDATE holdings SET period = tstzrange(lower(period), greatest(clock_timestamp(),"
      " lower(period) + interval '1 microsecond')), releasing = false, closed_by = $2,"
      " evidence = $3 WHERE id = $1 AND upper_inf(period)"
      " RETURNING tenant_id, service_id, pool_id::text, abbrev(space), upper(period)::text",
      holding_id, operation, evidence);
  if (closed.empty()) return;
  const auto& row = closed[0];
  tx.exec_params(
      "UPDATE pool_addresses a SET state = CASE WHEN a.state = 'blocked' OR EXISTS (SELECT 1"
      "   FROM pool_exclusions e WHERE e.pool_id = a.pool_id AND e.space && a.address)"
      "   THEN 'blocked' ELSE 'free' END,"
      " last_end = $3::timestamptz, last_service_id = $4,"
      " free_after = $3::timestamptz + $5::bigint * interval '1 second'"
      " WHERE a.pool_id = $1::uuid AND a.address = $2::inet",
      row[2].c_str(), row[3].c_str(), row[4].c_str(), row[1].as<std::int64_t>(), quarantine_s);
  if (quarantine_s > 0) {
    tx.exec_params(
        "INSERT INTO quarantines (tenant_id, service_id, pool_id, space, since, until, why)"
        " VALUES ($1, $2, $3::uuid, $4::inet, $5::timestamptz,"
        " $5::timestamptz + $6::bigint * interval '1 second', $7)",
        row[0].c_str(), row[1].as<std::int64_t>(), row[2].c_str(), row[3].c_str(), row[4].c_str(),
        quarantine_s, evidence);
  }
}

void block_space(Tx& tx, const std::string& pool_id, const std::string& space,
                 const std::string& why) {
  tx.exec_params(
      "UPDATE pool_addresses SET state = 'blocked', why = $3"
      " WHERE pool_id = $1::uuid AND address = $2::inet",
      pool_id, space, why);
}

}  // namespace addrflow::ledger
