// The commands on the ledger itself: pools, NAS, status. They need no Temporal server.

#include "commands.hpp"
#include "parts.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <addrflow/domain/ids.hpp>

#include <nlohmann/json.hpp>

namespace addrflow::cli {
namespace {

std::chrono::seconds seconds_of(const std::string& field, const std::string& text) {
  auto duration = parse_duration(text);
  if (!duration) {
    throw std::invalid_argument(field + ": " + duration.error());
  }
  return std::chrono::duration_cast<std::chrono::seconds>(*duration);
}

nlohmann::json usage_json(const ledger::PoolUsage& pool) {
  return {{"id", pool.id},
          {"tenant", pool.tenant},
          {"name", pool.name},
          {"family", pool.family},
          {"prefix", pool.prefix},
          {"routing_domain", pool.routing_domain},
          {"group", pool.group},
          {"priority", pool.priority},
          {"draining", pool.draining},
          {"delegated_length", pool.delegated_length},
          {"shortest_length", pool.shortest_length},
          {"total", pool.total},
          {"held", pool.held},
          {"free", pool.free},
          {"counted_at", pool.counted_at}};
}

ledger::By by(const PoolArguments& arguments) {
  return {.actor = arguments.actor, .reason = arguments.reason};
}

Exit show_change(const Shell& shell, const PoolArguments& arguments,
                 const ledger::PoolChange& change) {
  return shell.output.facts({{"pool", arguments.name},
                             {"space", arguments.space},
                             {"complete", change.complete ? "yes" : "no: lines hold some of it"},
                             {"held", fmt::format("{}", fmt::join(change.held, " "))}});
}

}  // namespace

Exit run_tenant_add(const Shell& shell, const std::string& tenant) {
  return guarded(shell, [&] {
    ledger::Ledger(ledger_settings(shell.settings)).add_tenant(tenant);
    return shell.output.facts({{"tenant", tenant}});
  });
}

Exit run_profile(const Shell& shell, const Target& target, const std::string& mode) {
  return guarded(shell, [&] {
    ledger::Ledger ledger(ledger_settings(shell.settings));
    const ledger::Profile profile =
        mode.empty() ? ledger.profile(target.tenant, target.subscriber)
                     : ledger.set_ipv6_mode(target.tenant, target.subscriber, mode);
    return shell.output.facts({{"subscriber", target.subscriber},
                               {"ipv6_mode", profile.ipv6_mode},
                               {"ipv6_prefix", profile.ipv6_prefix},
                               {"ipv6_state", profile.ipv6_state}});
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
    if (arguments.cidr.find(':') != std::string::npos) pool.family = domain::kFamilyIpv6Pd;
    pool.delegated_length = arguments.delegate;
    pool.shortest_length = arguments.shortest;
    pool.group = arguments.group;
    pool.priority = arguments.priority;
    pool.nas_ips = arguments.nas;
    pool.granted_to = arguments.grant;
    pool.netbox_start_now = arguments.no_import;
    const ledger::PoolInfo info = ledger::Ledger(ledger_settings(shell.settings)).add_pool(pool);
    return shell.output.facts({{"pool", arguments.name},
                               {"id", info.id},
                               {"addresses", std::to_string(info.total)},
                               {"free", std::to_string(info.free)}});
  });
}

Exit run_pool_list(const Shell& shell, const PoolArguments& arguments) {
  return guarded(shell, [&] {
    const auto pools = ledger::Ledger(ledger_settings(shell.settings)).pools(arguments.tenant);
    nlohmann::json list = nlohmann::json::array();
    for (const ledger::PoolUsage& pool : pools) list.push_back(usage_json(pool));
    if (shell.output.json) {
      fmt::print("{}\n", list.dump(2));
      return Exit::kDone;
    }
    for (const ledger::PoolUsage& pool : pools) {
      fmt::print("{}/{}  {} {}  {} of {} held, {} free{}\n", pool.tenant, pool.name, pool.family,
                 pool.prefix, pool.held, pool.total, pool.free, pool.draining ? ", draining" : "");
    }
    return Exit::kDone;
  });
}

Exit run_pool_show(const Shell& shell, const PoolArguments& arguments) {
  return guarded(shell, [&] {
    const auto pool = ledger::Ledger(ledger_settings(shell.settings))
                          .pool_usage(arguments.tenant, arguments.name);
    nlohmann::json shown = usage_json(pool);
    shown["resting"] = pool.resting;
    shown["blocked"] = pool.blocked;
    shown["nas_ips"] = pool.nas_ips;
    shown["granted_to"] = pool.granted_to;
    shown["exclusions"] = pool.exclusions;
    if (shell.output.json) {
      fmt::print("{}\n", shown.dump(2));
    } else {
      for (const auto& [name, value] : shown.items())
        fmt::print("{}: {}\n", name, value.is_string() ? value.get<std::string>() : value.dump());
    }
    return Exit::kDone;
  });
}

Exit run_pool_drain(const Shell& shell, const PoolArguments& arguments, bool draining) {
  return guarded(shell, [&] {
    ledger::Ledger(ledger_settings(shell.settings))
        .drain_pool(arguments.tenant, arguments.name, draining, by(arguments));
    return shell.output.facts({{"pool", arguments.name}, {"draining", draining ? "yes" : "no"}});
  });
}

Exit run_pool_exclude(const Shell& shell, const PoolArguments& arguments) {
  return guarded(shell, [&] {
    return show_change(shell, arguments,
                       ledger::Ledger(ledger_settings(shell.settings))
                           .exclude_space(arguments.tenant, arguments.name, arguments.space,
                                          arguments.drain, by(arguments)));
  });
}

Exit run_pool_shrink(const Shell& shell, const PoolArguments& arguments) {
  return guarded(shell, [&] {
    return show_change(shell, arguments,
                       ledger::Ledger(ledger_settings(shell.settings))
                           .shrink_pool(arguments.tenant, arguments.name, arguments.space,
                                        arguments.drain, by(arguments)));
  });
}

Exit run_pool_unblock(const Shell& shell, const PoolArguments& arguments) {
  return guarded(shell, [&] {
    ledger::Ledger(ledger_settings(shell.settings))
        .unblock_space(arguments.tenant, arguments.name, arguments.space, by(arguments));
    return shell.output.facts({{"pool", arguments.name}, {"unblocked", arguments.space}});
  });
}

Exit run_pool_end_quarantine(const Shell& shell, const PoolArguments& arguments) {
  return guarded(shell, [&] {
    ledger::Ledger(ledger_settings(shell.settings))
        .end_quarantine(arguments.tenant, arguments.name, arguments.space, by(arguments));
    return shell.output.facts({{"pool", arguments.name}, {"free", arguments.space}});
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
