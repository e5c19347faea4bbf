// What people set up: tenants, pools, NAS.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <addrflow/domain/ids.hpp>
#include <addrflow/domain/ipv4.hpp>
#include <addrflow/domain/ipv6.hpp>
#include <addrflow/ledger/ledger.hpp>
#include <algorithm>

#include "pools.hpp"
#include "restore.hpp"
#include "store.hpp"

namespace addrflow::ledger {
namespace {

using domain::Ipv4Address;

constexpr int kWidestPool = 12;    // /12: a million addresses, a row each
constexpr int kWidestPrefix = 16;  // no rows before they are used, but their number is counted

struct Lengths {
  int delegated = 32;
  int chunk = 32;
};

Lengths lengths_of(const PoolSpec& spec) {
  if (spec.family == domain::kFamilyIpv4) return {};
  const int delegated =
      spec.delegated_length == 0 ? domain::kDefaultDelegation : spec.delegated_length;
  return {.delegated = delegated,
          .chunk = spec.shortest_length == 0 ? delegated : spec.shortest_length};
}

[[noreturn]] void refuse(const std::string& message) {
  throw LedgerError{ErrorCode::kInvalidArgument, message};
}

struct Range {
  Ipv4Address first;
  Ipv4Address last;
};

Range parse_range(const std::string& text) {
  if (const auto prefix = domain::parse_ipv4_prefix(text)) {
    const auto last = static_cast<std::uint32_t>(prefix->network.value + prefix->size() - 1);
    return {prefix->network, {last}};
  }
  const auto dash = text.find('-');
  const auto first = domain::parse_ipv4(text.substr(0, dash));
  const auto last = dash == std::string::npos ? first : domain::parse_ipv4(text.substr(dash + 1));
  if (!first || !last || last->value < first->value)
    refuse("exclusions: no address, prefix or range: " + text);
  return {*first, *last};
}

void must_be_its_vrf(const PoolSpec& spec, std::int64_t there) {
  if (spec.netbox_vrf_id == 0 || spec.netbox_vrf_id == there) return;
  throw LedgerError{
      ErrorCode::kConflict,
      fmt::format("vrf: routing domain {} is in NetBox's {}, not in VRF {}; nothing was changed",
                  spec.routing_domain, there == 0 ? "global table" : fmt::format("VRF {}", there),
                  spec.netbox_vrf_id)};
}

std::int64_t domain_id(Tx& tx, const PoolSpec& spec) {
  tx.exec_params(
      "INSERT INTO routing_domains (name, netbox_vrf_id) VALUES ($1, nullif($2::bigint, 0))"
      " ON CONFLICT DO NOTHING",
      spec.routing_domain, spec.netbox_vrf_id);
  // One that has no pools yet is still to be given its VRF.
  tx.exec_params(
      "UPDATE routing_domains d SET netbox_vrf_id = $2 WHERE name = $1 AND $2::bigint <> 0"
      " AND netbox_vrf_id IS NULL AND NOT EXISTS (SELECT 1 FROM ip_pools p"
      "  WHERE p.routing_domain_id = d.id)",
      spec.routing_domain, spec.netbox_vrf_id);
  const auto found = tx.exec_params(
      "SELECT id, coalesce(netbox_vrf_id, 0) FROM routing_domains WHERE name = $1 FOR SHARE",
      spec.routing_domain);
  must_be_its_vrf(spec, found[0][1].as<std::int64_t>());
  return found[0][0].as<std::int64_t>();
}

void fill_pool(Tx& tx, const std::string& id, const PoolSpec& spec,
               const domain::Ipv4Prefix& prefix) {
  // Network and broadcast address, unless the prefix is too small to have them (RFC 3021).
  const bool edges = prefix.length <= 30;
  tx.exec_params(
      "INSERT INTO pool_addresses (pool_id, address)"
      " SELECT $1::uuid, $2::inet + i FROM generate_series($3::bigint, $4::bigint) i",
      id, domain::to_string(prefix.network), edges ? 1 : 0,
      static_cast<std::int64_t>(prefix.size()) - (edges ? 2 : 1));
  const auto block = [&](const Range& range, const std::string& why) {
    tx.exec_params(
        "UPDATE pool_addresses SET state = 'blocked', why = $4 WHERE pool_id = $1::uuid"
        " AND address BETWEEN $2::inet AND $3::inet",
        id, domain::to_string(range.first), domain::to_string(range.last), why);
  };
  if (!spec.gateway.empty()) {
    const auto gateway = domain::parse_ipv4(spec.gateway);
    if (!gateway || !prefix.contains(*gateway))
      refuse("gateway is not an address of the pool: " + spec.gateway);
    block({*gateway, *gateway}, "the gateway");
  }
  for (const std::string& text : spec.exclusions) {
    const Range range = parse_range(text);
    if (!prefix.contains(range.first) || !prefix.contains(range.last))
      refuse("exclusions: not inside the pool: " + text);
    block(range, "excluded");
  }
}

void check_ipv4(const PoolSpec& spec) {
  const auto prefix = domain::parse_ipv4_prefix(spec.prefix);
  if (!prefix) refuse("prefix is no IPv4 prefix: " + spec.prefix);
  if (prefix->length < kWidestPool)
    refuse(fmt::format("prefix is wider than /{}: {}", kWidestPool, spec.prefix));
  if (spec.delegated_length != 0 || spec.shortest_length != 0)
    refuse("delegated_length and shortest_length are of pools of prefixes");
}

void check_ipv6(const PoolSpec& spec, const Lengths& lengths) {
  const auto prefix = domain::parse_ipv6_prefix(spec.prefix);
  if (!prefix) refuse("prefix is no IPv6 prefix: " + spec.prefix);
  if (lengths.delegated < domain::kShortestDelegation ||
      lengths.delegated > domain::kLongestDelegation)
    refuse(fmt::format("delegated_length must be 48 to 64: {}", lengths.delegated));
  if (lengths.chunk < domain::kShortestDelegation || lengths.chunk > lengths.delegated)
    refuse(fmt::format("shortest_length must be 48 to {}: {}", lengths.delegated, lengths.chunk));
  if (prefix->length > lengths.chunk || prefix->length < kWidestPrefix) {
    refuse(fmt::format("prefix must be /{} to /{}: {}", kWidestPrefix, lengths.chunk, spec.prefix));
  }
  if (!spec.gateway.empty()) refuse("gateway is of IPv4 pools: " + spec.gateway);
}

void check_pool(const PoolSpec& spec) {
  if (const auto ok = domain::check_id("name", spec.name); !ok) refuse(ok.error().message);
  check_group(spec.group);
  if (spec.family == domain::kFamilyIpv4) {
    check_ipv4(spec);
  } else if (spec.family == domain::kFamilyIpv6Pd) {
    check_ipv6(spec, lengths_of(spec));
  } else {
    refuse("family must be ipv4 or ipv6_pd: " + spec.family);
  }
  check_nas_ips(spec.nas_ips);
  check_times(spec.quarantine, spec.hold_time.value_or(kDefaultHold));
  check_netbox_mode(spec.netbox_mode);
  if (spec.netbox_vrf_id < 0) refuse("vrf must be NetBox's number of it");
}

// A pool of prefixes begins as intervals of what nobody ever had.
void make_shards(Tx& tx, const std::string& id, const PoolSpec& spec) {
  tx.exec_params("SELECT make_pool_shards($1::uuid)", id);
  for (const std::string& text : spec.exclusions) {
    const auto prefix = domain::parse_ipv6_prefix(text);
    if (!prefix || !domain::parse_ipv6_prefix(spec.prefix)->contains(*prefix))
      refuse("exclusions: no prefix inside the pool: " + text);
    tx.exec_params(
        "INSERT INTO pool_exclusions (pool_id, space, reason) VALUES ($1::uuid, $2::inet,"
        " 'excluded') ON CONFLICT DO NOTHING",
        id, text);
  }
}

PoolInfo pool_info(Tx& tx, const std::string& id) {
  tx.exec_params("SELECT roll_up_pool($1::uuid)", id);
  const auto counted = tx.exec_params(
      "SELECT total_addresses, available_count FROM ip_pools WHERE id = $1::uuid", id);
  return {.id = id,
          .total = counted[0][0].as<std::int64_t>(),
          .free = counted[0][1].as<std::int64_t>()};
}

}  // namespace

void must_have_tenant(Tx& tx, const std::string& tenant) {
  if (tx.exec_params("SELECT 1 FROM tenants WHERE tenant_id = $1", tenant).empty())
    throw LedgerError{ErrorCode::kNoSuchTenant, "tenant: there is no such tenant: " + tenant};
}

Ledger::Ledger(Settings settings, ports::SessionDirectory* sessions, ports::ServiceWaker* waker)
    : settings_(std::move(settings)),
      store_(std::make_unique<Store>(settings_)),
      sessions_(sessions),
      waker_(waker) {}

Ledger::~Ledger() = default;

void Ledger::add_tenant(const std::string& tenant) {
  if (const auto ok = domain::check_id("tenant", tenant); !ok) refuse(ok.error().message);
  store_->as_owner([&](Tx& tx) {
    tx.exec_params("INSERT INTO tenants (tenant_id) VALUES ($1) ON CONFLICT DO NOTHING", tenant);
    return true;
  });
}

namespace {

void must_be_same(const char* field, const std::string& there, const std::string& wanted) {
  if (there == wanted) return;
  throw LedgerError{ErrorCode::kConflict,
                    fmt::format("{}: there is a pool of that name, of which it is '{}', not"
                                " '{}'; nothing was changed",
                                field, there, wanted)};
}

// What a pool of addresses was made without has that reason; what people or NetBox have blocked
// since has another, and is none of its options.
bool excludes_the_same(Tx& tx, const std::string& id, const PoolSpec& spec) {
  std::vector<std::string> first;
  std::vector<std::string> last;
  for (const std::string& text : spec.exclusions) {
    const Range range = parse_range(text);
    first.push_back(domain::to_string(range.first));
    last.push_back(domain::to_string(range.last));
  }
  return tx
      .exec_params(
          "SELECT NOT EXISTS (SELECT 1 FROM pool_addresses a WHERE a.pool_id = $1::uuid"
          " AND (a.state = 'blocked' AND a.why = 'excluded') <> EXISTS (SELECT 1"
          "  FROM unnest($2::text[], $3::text[]) r (low, high)"
          "  WHERE a.address BETWEEN r.low::inet AND r.high::inet))",
          id, array_of(first), array_of(last))[0][0]
      .as<bool>();
}

void must_exclude_the_same(Tx& tx, const std::string& id, const PoolSpec& spec) {
  if (spec.family != domain::kFamilyIpv4) {
    std::vector<std::string> wanted;
    for (const std::string& text : spec.exclusions) wanted.push_back(written(text));
    must_be_same("exclusions",
                 listed_in(tx,
                           "SELECT abbrev(space) FROM pool_exclusions WHERE pool_id = $1::uuid"
                           " AND reason = 'excluded'",
                           id),
                 listed(std::move(wanted)));
  } else if (!excludes_the_same(tx, id, spec)) {
    throw LedgerError{ErrorCode::kConflict,
                      "exclusions: there is a pool of that name, which was made without other"
                      " addresses; nothing was changed"};
  }
}

// The lists that belong to the pool, and its routing domain.
void must_be_same_around(Tx& tx, const std::string& id, const PoolSpec& spec) {
  const auto domain = tx.exec_params(
      "SELECT d.name, coalesce(d.netbox_vrf_id, 0) FROM ip_pools p JOIN routing_domains d"
      " ON d.id = p.routing_domain_id WHERE p.id = $1::uuid",
      id)[0];
  must_be_same("routing_domain", domain[0].c_str(), spec.routing_domain);
  must_be_its_vrf(spec, domain[1].as<std::int64_t>());
  std::vector<std::string> nas_ips;
  for (const std::string& nas : spec.nas_ips) nas_ips.push_back(written(nas));
  must_be_same("nas_ips", nas_ips_of(tx, id), listed(std::move(nas_ips)));
  std::vector<std::string> granted;
  for (const std::string& tenant : spec.granted_to) {
    must_have_tenant(tx, tenant);
    if (tenant != spec.tenant) granted.push_back(tenant);
  }
  must_be_same("granted_to",
               listed_in(tx,
                         "SELECT g.tenant_id FROM pool_grants g JOIN ip_pools p ON p.id = g.pool_id"
                         " WHERE g.pool_id = $1::uuid AND g.tenant_id <> p.tenant_id",
                         id),
               listed(std::move(granted)));
  must_exclude_the_same(tx, id, spec);
}

// The id of the pool of that name, which is made as the caller says; one that is made otherwise is
// a conflict, for nothing of it would be changed.
std::optional<std::string> same_pool(Tx& tx, const PoolSpec& spec, const Lengths& lengths) {
  const auto known = tx.exec_params(
      "SELECT id::text, prefix::text, family, coalesce(host(gateway), ''), quarantine_s,"
      " hold_time_s, netbox_mode, delegated_length, chunk_length, coalesce(pool_group, ''), "
      "priority, netbox_imported_at IS NOT NULL"
      " FROM ip_pools WHERE tenant_id = $1 AND pool_name = $2",
      spec.tenant, spec.name);
  if (known.empty()) return {};
  // What nobody has named was a day then, or what the longest lease was: it may be another now.
  const std::int64_t held = known[0][5].as<std::int64_t>();
  const bool by_default = !spec.hold_time && held >= kDefaultHold.count();
  const std::int64_t hold = by_default ? held : spec.hold_time.value_or(kDefaultHold).count();
  auto same = [&, column = 1](const char* field, const std::string& wanted) mutable {
    must_be_same(field, known[0][column++].c_str(), wanted);
  };
  same("prefix", written(spec.prefix));
  same("family", spec.family);
  same("gateway", written(spec.gateway));
  same("quarantine", std::to_string(spec.quarantine.count()));
  same("hold_time", std::to_string(hold));
  same("netbox_mode", spec.netbox_mode);
  same("delegated_length", std::to_string(lengths.delegated));
  same("shortest_length", std::to_string(lengths.chunk));
  same("group", spec.group);
  same("priority", std::to_string(spec.priority));
  const std::string id = known[0][0].c_str();
  must_be_same_around(tx, id, spec);
  if (spec.netbox_start_now && spec.netbox_mode != "off" && !known[0][11].as<bool>()) {
    throw LedgerError{ErrorCode::kConflict,
                      "no_import: there is a pool of that name, which waits for its import; nothing"
                      " was changed"};
  }
  return id;
}

}  // namespace

PoolInfo Ledger::add_pool(const PoolSpec& spec) {
  check_pool(spec);
  const Lengths lengths = lengths_of(spec);
  const auto hold_time = spec.hold_time.value_or(std::max(kDefaultHold, settings_.longest_lease));
  return store_->as_owner([&](Tx& tx) {
    must_have_tenant(tx, spec.tenant);
    if (const auto known = same_pool(tx, spec, lengths)) return pool_info(tx, *known);
    must_outlive_sessions(hold_time, settings_);
    const std::int64_t domain = domain_id(tx, spec);
    const auto overlapping = tx.exec_params(
        "SELECT pool_name FROM ip_pools WHERE routing_domain_id = $1 AND prefix && $2::cidr LIMIT "
        "1",
        domain, spec.prefix);
    if (!overlapping.empty()) {
      throw LedgerError{ErrorCode::kConflict,
                        fmt::format("prefix overlaps with pool {}", overlapping[0][0].c_str())};
    }
    const auto made = tx.exec_params(
        "INSERT INTO ip_pools (tenant_id, pool_name, routing_domain_id, prefix, gateway,"
        " quarantine_s, hold_time_s, netbox_mode, netbox_prefix_id, family, delegated_length,"
        " chunk_length, pool_group, priority, netbox_imported_at) VALUES ($1, $2, $3, $4::cidr,"
        " nullif($5, '')::inet, $6, $7, $8, nullif($9::bigint, 0), $10, $11, $12, $13, $14,"
        " CASE WHEN $15::boolean THEN clock_timestamp() END) RETURNING id::text",
        spec.tenant, spec.name, domain, spec.prefix, spec.gateway,
        static_cast<std::int64_t>(spec.quarantine.count()),
        static_cast<std::int64_t>(hold_time.count()), spec.netbox_mode, spec.netbox_prefix_id,
        spec.family, lengths.delegated, lengths.chunk, spec.group, spec.priority,
        spec.netbox_start_now);
    const std::string id = made[0][0].c_str();
    if (spec.family == domain::kFamilyIpv4) {
      fill_pool(tx, id, spec, *domain::parse_ipv4_prefix(spec.prefix));
    } else {
      make_shards(tx, id, spec);
    }
    for (const std::string& nas : spec.nas_ips) {
      tx.exec_params(
          "INSERT INTO pool_nas (pool_id, nas_ip) VALUES ($1::uuid, $2::inet)"
          " ON CONFLICT DO NOTHING",
          id, nas);
    }
    std::vector<std::string> grants = spec.granted_to;
    grants.push_back(spec.tenant);
    for (const std::string& tenant : grants) {
      must_have_tenant(tx, tenant);
      tx.exec_params(
          "INSERT INTO pool_grants (pool_id, tenant_id) VALUES ($1::uuid, $2)"
          " ON CONFLICT DO NOTHING",
          id, tenant);
    }
    return pool_info(tx, id);
  });
}

namespace {

bool is_reference(const std::string& text) {
  return (text.starts_with("env:") && text.size() > 4) ||
         (text.starts_with("file:") && text.size() > 5);
}

bool is_address(const std::string& text) {
  in6_addr octets{};
  return inet_pton(AF_INET, text.c_str(), &octets) == 1 ||
         inet_pton(AF_INET6, text.c_str(), &octets) == 1;
}

void must_be_usable(const ports::NasRecord& nas) {
  if (!is_address(nas.nas_ip)) refuse("nas_ip is no address: " + nas.nas_ip);
  for (const std::string& address : nas.source_addresses) {
    if (!is_address(address)) refuse("source_addresses: no address: " + address);
  }
  const bool keyed = nas.transport != "radsec" || !nas.secret_ref.empty();
  if (keyed && !is_reference(nas.secret_ref))
    refuse("secret must be a reference: env:NAME or file:/path");
  if (!nas.next_secret_ref.empty() && !is_reference(nas.next_secret_ref)) {
    refuse("next_secret must be a reference: env:NAME or file:/path");
  }
  if (nas.interim_interval.count() <= 0) refuse("interim_interval must be positive");
  if (!(nas.rate >= 0)) refuse("rate must not be negative");
  if (nas.window > 64) refuse("window must be at most 64");
  if (nas.jitter.count() < 0 || nas.jitter > std::chrono::minutes{1}) {
    refuse("jitter must be within 0 and 1 minute");
  }
  if (nas.transport != "udp" && nas.transport != "radsec") {
    refuse("transport must be udp or radsec: " + nas.transport);
  }
  if (nas.transport == "radsec" &&
      (nas.tls_ca.empty() || nas.tls_certificate.empty() || nas.tls_key.empty())) {
    refuse("radsec wants tls_ca, tls_certificate and tls_key");
  }
}

}  // namespace

void Ledger::remove_nas(const std::string& tenant, const std::string& name, const std::string& ip,
                        const By& by) {
  store_->as_owner([&](Tx& tx) {
    const auto found = tx.exec_params(
        "SELECT host(nas_ip), (SELECT count(*) FROM services s WHERE s.tenant_id = n.tenant_id"
        "  AND (s.nas_ip = host(n.nas_ip) OR nullif(s.nas_ip, '')::inet = ANY(n.source_addresses))"
        "  AND EXISTS (SELECT 1 FROM holdings h WHERE h.service_id = s.id"
        "   AND upper_inf(h.period))),"
        " coalesce((SELECT min(p.pool_name) FROM pool_nas pn JOIN ip_pools p ON p.id = pn.pool_id"
        "  WHERE p.tenant_id = n.tenant_id AND pn.nas_ip = n.nas_ip), '')"
        " , n.id FROM nas n WHERE n.tenant_id = $1 AND n.name = $2"
        " AND ($3 = '' OR host(n.nas_ip) = $3) FOR UPDATE OF n",
        tenant, name, ip);
    if (found.empty())
      throw LedgerError{ErrorCode::kNotFound, fmt::format("name: {} has no NAS {}", tenant, name)};
    // An older version let one name stand for several.
    if (found.size() > 1)
      throw LedgerError{ErrorCode::kConflict,
                        fmt::format("ip: {} NAS are called {}: name one", found.size(), name)};
    if (const auto lines = found[0][1].as<std::int64_t>(); lines > 0)
      throw LedgerError{ErrorCode::kConflict,
                        fmt::format("name: {} lines with space hang on NAS {}", lines, name)};
    if (const std::string pool = found[0][2].c_str(); !pool.empty())
      throw LedgerError{ErrorCode::kConflict,
                        fmt::format("name: pool {} serves NAS {}", pool, name)};
    tx.exec_params("DELETE FROM nas WHERE id = $1", found[0][3].as<std::int64_t>());
    tx.exec_params(
        "INSERT INTO audit_log (tenant_id, event, actor, code, detail)"
        " VALUES ($1, 'nas_removed', $2, 'ok', $3)",
        tenant, by.actor, fmt::format("{} {}: {}", name, found[0][0].c_str(), by.reason));
    return true;
  });
}

void Ledger::add_nas(const ports::NasRecord& nas) {
  must_be_usable(nas);
  store_->as_owner([&](Tx& tx) {
    must_have_tenant(tx, nas.tenant);
    // By its name people find it again.
    const auto other = tx.exec_params(
        "SELECT host(nas_ip) FROM nas WHERE tenant_id = $1 AND name = $2 AND nas_ip <> $3::inet"
        " AND NOT EXISTS (SELECT 1 FROM nas WHERE tenant_id = $1 AND name = $2"
        "  AND nas_ip = $3::inet)",
        nas.tenant, nas.name, nas.nas_ip);
    if (!other.empty())
      throw LedgerError{ErrorCode::kConflict,
                        fmt::format("name: {} is the NAS with {}; another one needs another name",
                                    nas.name, other[0][0].c_str())};
    std::string addresses = "{";
    for (const std::string& address : nas.source_addresses) {
      addresses += (addresses.size() > 1 ? "," : "") + address;
    }
    addresses += "}";
    tx.exec_params(
        "INSERT INTO nas (tenant_id, name, nas_ip, coa_host, coa_port, dialect, secret_ref,"
        " nas_identifier, interim_interval_s, source_addresses, next_secret_ref, rate,"
        " request_window, jitter_ms, redundancy_group, transport, tls_ca, tls_certificate, tls_key,"
        " tls_server_name) VALUES ($1, $2, $3::inet, $4, $5, $6, $7, $8, $9, $10::inet[], $11, $12,"
        " $13, $14, $15, $16, $17, $18, $19, $20)"
        " ON CONFLICT (tenant_id, nas_ip) DO UPDATE SET name = excluded.name,"
        " coa_host = excluded.coa_host, coa_port = excluded.coa_port, dialect = excluded.dialect,"
        " secret_ref = excluded.secret_ref, nas_identifier = excluded.nas_identifier,"
        " interim_interval_s = excluded.interim_interval_s,"
        " source_addresses = excluded.source_addresses,"
        " next_secret_ref = excluded.next_secret_ref, rate = excluded.rate,"
        " request_window = excluded.request_window, jitter_ms = excluded.jitter_ms,"
        " redundancy_group = excluded.redundancy_group, transport = excluded.transport,"
        " tls_ca = excluded.tls_ca, tls_certificate = excluded.tls_certificate,"
        " tls_key = excluded.tls_key, tls_server_name = excluded.tls_server_name",
        nas.tenant, nas.name, nas.nas_ip, nas.coa_host.empty() ? nas.nas_ip : nas.coa_host,
        static_cast<int>(nas.coa_port), nas.dialect, nas.secret_ref, nas.nas_identifier,
        static_cast<std::int64_t>(nas.interim_interval.count()), addresses, nas.next_secret_ref,
        nas.rate, static_cast<int>(nas.window), static_cast<std::int64_t>(nas.jitter.count()),
        nas.redundancy_group, nas.transport, nas.tls_ca, nas.tls_certificate, nas.tls_key,
        nas.tls_server_name);
    return true;
  });
}

}  // namespace addrflow::ledger
