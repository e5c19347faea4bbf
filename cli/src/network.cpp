// The commands on the ledger itself: pools, NAS, status. They need no Temporal server.

#include "commands.hpp"
#include "parts.hpp"

#include <fmt/format.h>
#include <addrflow/domain/ids.hpp>

namespace addrflow::cli {
namespace {

std::chrono::seconds seconds_of(const std::string& field, const std::string& text) {
  auto duration = parse_duration(text);
  if (!duration) {
    throw std::invalid_argument(field + ": " + duration.error());
  }
  return std::chrono::duration_cast<std::chrono::seconds>(*duration);
}

}  // namespace

Exit run_tenant_add(const Shell& shell, const std::string& tenant) {
  return guarded(shell, [&] {
    ledger::Ledger(ledger_settings(shell.settings)).add_tenant(tenant);
    return shell.output.facts({{"tenant", tenant}});
  });
}

Exit run_pool_add(const Shell& shell, const PoolArguments& arguments) {
  return guarded(shell, [&] {
    ledger::PoolSpec pool;
    pool.tenant = arguments.tenant;
    pool.name = arguments.name;
    pool.prefix = arguments.cidr;
    pool.gateway = arguments.gateway;
    pool.exclusions = arguments.exclude;
    pool.routing_domain = arguments.domain;
    pool.quarantine = seconds_of("quarantine", arguments.quarantine);
    pool.hold_time = seconds_of("hold", arguments.hold);
    pool.netbox_mode = arguments.netbox_mode;
    const ledger::PoolInfo info = ledger::Ledger(ledger_settings(shell.settings)).add_pool(pool);
    return shell.output.facts({{"pool", arguments.name},
                               {"id", info.id},
                               {"addresses", std::to_string(info.total)},
                               {"free", std::to_string(info.free)}});
  });
}

Exit run_status(const Shell& shell, const Target& target) {
  if (auto valid = domain::check_service({target.tenant, target.subscriber, target.service});
      !valid) {
    return shell.output.fail(Exit::kUsage, "invalid_argument", valid.error().message);
  }
  return guarded(shell, [&] {
    v1::ServiceRef service;
    service.set_tenant_id(target.tenant);
    service.set_subscriber_id(target.subscriber);
    service.set_service(target.service);
    return shell.output.view(ledger::Ledger(ledger_settings(shell.settings)).view(service));
  });
}

}  // namespace addrflow::cli
