// The commands on NetBox: what it needs, what it holds, and where it differs from the ledger.

#include "commands.hpp"
#include "parts.hpp"
#include "temporal.hpp"

#include <fmt/format.h>
#include <addrflow/compose/compose.hpp>
#include <addrflow/netbox/client.hpp>
#include <addrflow/netbox/effects.hpp>

#include <nlohmann/json.hpp>

namespace addrflow::cli {
namespace {

using netbox::Clock;
using Facts = std::vector<std::pair<std::string, std::string>>;

constexpr std::chrono::minutes kImportLimit{30};

std::optional<std::int64_t> vrf_of(std::int64_t id) {
  return id == 0 ? std::nullopt : std::optional{id};
}

Exit failed(const Shell& shell, const netbox::Error& error) {
  const bool unknown = error.retryable || error.in_doubt;
  return shell.output.fail(unknown ? Exit::kUnknown : Exit::kRefused, netbox::code_of(error.kind),
                           "NetBox: " + error.message);
}

Exit not_configured(const Shell& shell) {
  return shell.output.fail(Exit::kUsage, "bad_configuration",
                           "NetBox is not configured (NETBOX_API_URL)");
}

netbox::Wish wish_of(const ledger::NetboxRow& row) {
  netbox::Wish wish;
  const bool delegated = row.wish.contains("prefix");
  const std::string place = row.wish.at(delegated ? "prefix" : "address");
  wish.kind = delegated ? netbox::Kind::kPrefix : netbox::Kind::kAddress;
  wish.address = place.substr(0, place.find('/'));
  wish.prefix_length = row.wish.at("prefix_length");
  wish.vrf_id = vrf_of(row.wish.at("vrf_id"));
  wish.key = row.wish.at("key");
  wish.lifecycle_state = row.wish.at("state");
  wish.status = row.action == "reserve"     ? "reserved"
                : row.action == "deprecate" ? "deprecated"
                                            : "active";
  return wish;
}

// Made by the platform before us, and known by its id: the next change makes it ours.
bool is_to_be_stamped(const ledger::NetboxRow& row, const netbox::Object& object) {
  return object.key.empty() && row.wish.value("taken_over", false) &&
         row.wish.at("netbox_id") == object.id;
}

// What differs; empty: nothing.
std::string difference(const ledger::NetboxRow& row, const netbox::Wish& wish,
                       const std::vector<netbox::Object>& there) {
  if (there.empty()) return "is not in NetBox";
  const netbox::Object& object = there.front();
  if (is_to_be_stamped(row, object)) {
    return fmt::format("carries no key of ours yet in NetBox (object {})", object.id);
  }
  if (object.key != wish.key) {
    return fmt::format("belongs to somebody else in NetBox (object {})", object.id);
  }
  if (there.size() > 1) return fmt::format("is {} objects in NetBox", there.size());
  if (object.status != wish.status) {
    return fmt::format("is {} in NetBox, not {}", object.status, wish.status);
  }
  if (object.lifecycle_state != wish.lifecycle_state) {
    return fmt::format("is '{}' in NetBox, not {}", object.lifecycle_state, wish.lifecycle_state);
  }
  const bool named = row.action != "deprecate";
  if (named && object.subscriber != row.service.subscriber_id()) {
    return fmt::format("names subscriber '{}' in NetBox", object.subscriber);
  }
  return {};
}

}  // namespace

Exit run_netbox_setup(const Shell& shell) {
  return guarded(shell, [&] {
    const auto client = netbox_client(shell.settings);
    if (!client) return not_configured(shell);
    const auto lines = client->setup(Clock::now() + 4 * client->timeout());
    if (!lines) return failed(shell, lines.error());
    Facts facts;
    for (const std::string& line : *lines) {
      const auto colon = line.rfind(": ");
      facts.emplace_back(line.substr(0, colon), line.substr(colon + 2));
    }
    return shell.output.facts(facts);
  });
}

Exit run_netbox_status(const Shell& shell) {
  return guarded(shell, [&] {
    const auto client = netbox_client(shell.settings);
    if (!client) return not_configured(shell);
    const auto version = client->version(Clock::now() + client->timeout());
    const auto token = client->token_kind();
    Facts facts{{"NetBox", version ? "answers, version " + *version : version.error().message},
                {"token", token ? *token : token.error()}};
    const auto status = ledger::Ledger(ledger_settings(shell.settings)).netbox_status();
    for (const auto& health : status.health) {
      facts.emplace_back(
          "breaker of " + health.worker,
          fmt::format(
              "{} at {}{}", health.breaker, health.at,
              health.detail.empty() || health.breaker == "closed" ? "" : ": " + health.detail));
    }
    for (const auto& count : status.backlog) {
      facts.emplace_back(fmt::format("{} {}", count.action, count.status),
                         fmt::format("{}, oldest of {}", count.effects, count.oldest));
    }
    if (status.backlog.empty()) facts.emplace_back("backlog", "none");
    shell.output.facts(facts);
    return version ? Exit::kDone : Exit::kUnknown;
  });
}

Exit run_netbox_import(const Shell& shell, const NetboxArguments& arguments) {
  return guarded(shell, [&] {
    const auto client = netbox_client(shell.settings);
    if (!client) return not_configured(shell);
    ledger::Ledger ledger(ledger_settings(shell.settings));
    const auto pool = ledger.netbox_pool(arguments.tenant, arguments.pool);
    const auto deadline = Clock::now() + kImportLimit;
    const auto found = client->occupied(pool.prefix, vrf_of(pool.vrf_id), deadline);
    if (!found) return failed(shell, found.error());
    netbox::Wish own;
    own.kind = netbox::Kind::kPrefix;
    own.address = pool.prefix.substr(0, pool.prefix.find('/'));
    own.prefix_length = std::stoi(pool.prefix.substr(pool.prefix.find('/') + 1));
    own.vrf_id = vrf_of(pool.vrf_id);
    const auto parents = client->find_by_address(own, deadline);
    if (!parents) return failed(shell, parents.error());
    const std::int64_t parent = parents->size() == 1 ? parents->front().id : 0;
    if (pool.mode == "authoritative" && parent == 0) {
      return shell.output.fail(Exit::kRefused, "netbox-not-found",
                               "NetBox must hold the pool's prefix exactly once: " + pool.prefix);
    }
    const auto of_pool = pool.family == "ipv4" ? netbox::Kind::kAddress : netbox::Kind::kPrefix;
    std::vector<ledger::Occupied> occupied;
    for (const netbox::Occupied& one : *found) {
      occupied.push_back({.first = one.first,
                          .last = one.last,
                          .cidr = one.cidr,
                          .key = one.key,
                          .what = one.what,
                          .netbox_id = one.kind == of_pool ? one.id : 0});
    }
    const auto report = ledger.import_netbox(pool, parent, occupied, arguments.dry_run);
    Facts facts{
        {"pool", pool.name},
        {"objects in NetBox", std::to_string(occupied.size())},
        {arguments.dry_run ? "would be blocked" : "blocked", std::to_string(report.blocked)},
        {"ours already", std::to_string(report.ours)}};
    for (const std::string& conflict : report.conflicts) facts.emplace_back("conflict", conflict);
    shell.output.facts(facts, {"conflict"});
    return report.conflicts.empty() ? Exit::kDone : Exit::kRefused;
  });
}

Exit run_netbox_sync(const Shell& shell, const NetboxArguments& arguments) {
  return guarded(shell, [&] {
    const auto client = netbox_client(shell.settings);
    if (!client) return not_configured(shell);
    ledger::Ledger ledger(ledger_settings(shell.settings));
    const auto rows = ledger.netbox_rows({.tenant = arguments.tenant,
                                          .subscriber = arguments.subscriber,
                                          .address = arguments.address,
                                          .pool = arguments.pool});
    Facts facts;
    bool foreign = false;
    for (const ledger::NetboxRow& row : rows) {
      const netbox::Wish wish = wish_of(row);
      const auto there = client->find_by_address(wish, Clock::now() + client->timeout());
      if (!there) return failed(shell, there.error());
      const std::string differs = difference(row, wish, *there);
      if (differs.empty()) continue;
      // Somebody else's object is never changed: a person must look.
      const bool ours =
          there->empty() || there->front().key == wish.key || is_to_be_stamped(row, there->front());
      foreign = foreign || !ours;
      if (ours && !arguments.dry_run) ledger.mirror_again(row);
      facts.emplace_back(wish.address, differs + (!ours               ? "; left alone"
                                                  : arguments.dry_run ? ""
                                                                      : "; sent again"));
    }
    if (facts.empty()) {
      facts.emplace_back("NetBox", fmt::format("agrees on {} bindings", rows.size()));
    }
    shell.output.facts(facts);
    return foreign ? Exit::kRefused : Exit::kDone;
  });
}

Exit run_netbox_catch_up(const Shell& shell) {
  return guarded(shell, [&] {
    const auto client = netbox_client(shell.settings);
    if (!client) return not_configured(shell);
    auto temporal = connect_temporal();
    if (!temporal) return report(shell.output, temporal.error());
    ledger::Ledger ledger(ledger_settings(shell.settings));
    compose::ClientWaker waker(*temporal);
    netbox::NetboxEffects effects(client, ledger, ledger, waker, {.worker = temporal->identity()});
    const auto result = effects.catch_up({}, [] { return false; });
    const Exit exit = shell.output.done(result);
    // What is left is due again, by the schedule or by this command.
    return result.unconfirmed() == 0 ? exit : Exit::kUnknown;
  });
}

}  // namespace addrflow::cli
