// subscriber_network_profiles: what a subscriber may have of IPv6, and what it shows of its prefix.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <addrflow/domain/ids.hpp>
#include <addrflow/ledger/ledger.hpp>

#include <algorithm>
#include <array>

#include "rows.hpp"
#include "store.hpp"

namespace addrflow::ledger {
namespace {

constexpr std::array<std::string_view, 5> kIpv6Modes{"none", "slaac", "stateful", "pd",
                                                     "dual_stack"};

void check_subscriber(const std::string& tenant, const std::string& subscriber) {
  for (const auto& [field, value] :
       {std::pair{"tenant", &tenant}, std::pair{"subscriber", &subscriber}}) {
    if (const auto ok = domain::check_id(field, *value); !ok)
      throw LedgerError{ErrorCode::kInvalidArgument, ok.error().message};
  }
}

Profile read_profile(Tx& tx, const std::string& tenant, const std::string& subscriber) {
  const auto found = tx.exec_params(
      "SELECT ipv6_assignment_mode, coalesce(ipv6_prefix::text, ''), ipv6_state::text"
      " FROM subscriber_network_profiles WHERE tenant_id = $1 AND subscriber_id = $2",
      tenant, subscriber);
  if (found.empty()) return {};
  return {.ipv6_mode = found[0][0].c_str(),
          .ipv6_prefix = found[0][1].c_str(),
          .ipv6_state = found[0][2].c_str()};
}

}  // namespace

Profile Ledger::profile(const std::string& tenant, const std::string& subscriber) {
  check_subscriber(tenant, subscriber);
  return store_->as_tenant(tenant, [&](Tx& tx) { return read_profile(tx, tenant, subscriber); });
}

Profile Ledger::set_ipv6_mode(const std::string& tenant, const std::string& subscriber,
                              const std::string& mode) {
  check_subscriber(tenant, subscriber);
  if (std::ranges::find(kIpv6Modes, mode) == kIpv6Modes.end())
    throw LedgerError{ErrorCode::kInvalidArgument, fmt::format("ipv6_mode must be one of {}: {}",
                                                               fmt::join(kIpv6Modes, ", "), mode)};
  return store_->as_owner([&](Tx& tx) {
    must_have_tenant(tx, tenant);
    tx.exec_params(
        "INSERT INTO subscriber_network_profiles AS p (tenant_id, subscriber_id,"
        " ipv6_assignment_mode) VALUES ($1, $2, $3) ON CONFLICT (tenant_id, subscriber_id)"
        " DO UPDATE SET ipv6_assignment_mode = excluded.ipv6_assignment_mode",
        tenant, subscriber, mode);
    return read_profile(tx, tenant, subscriber);
  });
}

}  // namespace addrflow::ledger
