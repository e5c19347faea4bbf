// The commands on the ledger itself: pools, NAS, status. They need no Temporal server.

#include "commands.hpp"
#include "parts.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <addrflow/aaa/sessions.hpp>
#include <addrflow/domain/ids.hpp>

#include <nlohmann/json.hpp>

#include <optional>

namespace addrflow::cli {
namespace {

std::chrono::seconds seconds_of(const std::string& field, const std::string& text) {
  auto duration = parse_duration(text);
  if (!duration) {
    throw std::invalid_argument(field + ": " + duration.error());
  }
  return std::chrono::duration_cast<std::chrono::seconds>(*duration);
}

// Of 100, to a tenth; of nothing it is 0.
double percent(std::int64_t part, std::int64_t whole) {
  return whole == 0
             ? 0
             : std::round(1000.0 * static_cast<double>(part) / static_cast<double>(whole)) / 10;
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
          {"quarantine_s", pool.quarantine_s},
          {"hold_time_s", pool.hold_time_s},
          {"netbox_mode", pool.netbox_mode},
          {"netbox_imported", pool.netbox_imported},
          {"netbox_vrf_id", pool.netbox_vrf_id},
          {"delegated_length", pool.delegated_length},
          {"shortest_length", pool.shortest_length},
          {"total", pool.total},
          {"held", pool.held},
          {"free", pool.free},
          {"utilization_percent", percent(pool.held, pool.total)},
          {"counted_at", pool.counted_at}};
}

// What the seeds' metrics ask of a family (B10 to B12).
nlohmann::json summary_json(const ledger::LifecycleCounts& counts) {
  const auto in = [&](const char* state) { return counts.states.at(state); };
  // Whoever has or is about to have space, or just gives it back.
  const std::int64_t total = in("pending") + in("allocated") + in("active") + in("suspended") +
                             in("revoking") + in("failed");
  return {{"states", counts.states},
          {"total", total},
          {"active", in("active")},
          {"allocated_not_active", in("allocated")},
          {"revoked", in("revoked")},
          {"utilization_percent", percent(in("active"), total)},
          {"netbox",
           {{"tracked", counts.tracked},
            {"untracked", counts.untracked},
            {"percent", percent(counts.tracked, counts.tracked + counts.untracked)}}}};
}

void print_summary(const nlohmann::json& summary) {
  for (const char* family : {"ipv4", "ipv6_pd"}) {
    const nlohmann::json& of = summary.at(family);
    fmt::print(
        "{}: {} in use, {} active ({} %), {} revoked; NetBox knows {} of {} held ({} %)\n", family,
        of["total"].dump(), of["active"].dump(), of["utilization_percent"].dump(),
        of["revoked"].dump(), of["netbox"]["tracked"].dump(),
        of["netbox"]["tracked"].get<std::int64_t>() + of["netbox"]["untracked"].get<std::int64_t>(),
        of["netbox"]["percent"].dump());
    for (const auto& [state, count] : of["states"].items()) {
      if (count != 0) fmt::print("  {:10} {}\n", state, count.dump());
    }
  }
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
    pool.netbox_vrf_id = arguments.vrf;
    pool.quarantine = seconds_of("quarantine", arguments.quarantine);
    if (!arguments.hold.empty()) pool.hold_time = seconds_of("hold", arguments.hold);
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

Exit run_pool_set(const Shell& shell, const PoolSetArguments& arguments) {
  return guarded(shell, [&] {
    ledger::PoolSettings wanted;
    if (arguments.quarantine) wanted.quarantine = seconds_of("quarantine", *arguments.quarantine);
    if (arguments.hold) wanted.hold_time = seconds_of("hold", *arguments.hold);
    wanted.group = arguments.no_group ? std::optional<std::string>{""} : arguments.group;
    wanted.priority = arguments.priority;
    wanted.grant = arguments.grant;
    wanted.revoke_grant = arguments.revoke_grant;
    if (arguments.any_nas || !arguments.nas.empty()) wanted.nas_ips = arguments.nas;
    wanted.netbox_mode = arguments.netbox_mode;
    wanted.netbox_vrf_id = arguments.vrf;
    wanted.netbox_start_now = arguments.no_import;
    ledger::Ledger ledger(ledger_settings(shell.settings));
    const auto changes = ledger.set_pool(arguments.tenant, arguments.name, wanted,
                                         {.actor = arguments.actor, .reason = arguments.reason});
    std::vector<std::pair<std::string, std::string>> facts{{"pool", arguments.name}};
    for (const std::string& change : changes) facts.emplace_back("changed", change);
    const auto pool = ledger.netbox_pool(arguments.tenant, arguments.name);
    if (pool.mode != "off" && pool.imported_at.empty())
      facts.emplace_back("to do", "addrflow netbox import " + pool.name);
    return shell.output.facts(facts, {"changed"});
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
      fmt::print(
          "{}/{}  {} {}  {} of {} held ({} %), {} free{}, {}\n", pool.tenant, pool.name,
          pool.family, pool.prefix, pool.held, pool.total, percent(pool.held, pool.total),
          pool.free, pool.draining ? ", draining" : "",
          pool.counted_at.empty() ? "not counted since it was made" : "counted " + pool.counted_at);
    }
    return Exit::kDone;
  });
}

Exit run_stats(const Shell& shell, const std::string& tenant) {
  return guarded(shell, [&] {
    ledger::Ledger ledger(ledger_settings(shell.settings));
    nlohmann::json summary = nlohmann::json::object();
    for (const auto& counts : ledger.lifecycle_counts(tenant)) {
      summary[counts.family] = summary_json(counts);
    }
    for (const ledger::PoolUsage& pool : ledger.pools(tenant)) {
      summary["pools"].push_back(usage_json(pool));
    }
    if (shell.output.json) {
      fmt::print("{}\n", summary.dump(2));
    } else {
      print_summary(summary);
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

namespace {

// Active means entitled; whether the line is online is accounting's to say. The ledger's word
// stands without it.
void ask_accounting(const Settings& settings, v1::ServiceView& view) {
  try {
    aaa::Database database(aaa_settings(settings));
    const auto open = aaa::AccountingSessions(database).open_sessions(
        {domain::username_of(view.username(), view.service().subscriber_id())});
    view.set_online(!open.empty());
    if (open.empty()) return;
    view.set_online_nas_ip(open.front().nas_ip);
    view.set_online_since(fmt::format(
        "{:%Y-%m-%dT%H:%M:%SZ}", std::chrono::floor<std::chrono::seconds>(open.front().started)));
  } catch (const std::exception&) {
    // What a database library says may hold the connection string.
    fmt::print(stderr, "addrflow: accounting could not be read\n");
  }
}

}  // namespace

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
    v1::ServiceView view = ledger::Ledger(ledger_settings(shell.settings)).view(service);
    ask_accounting(shell.settings, view);
    return shell.output.view(view);
  });
}

}  // namespace addrflow::cli
