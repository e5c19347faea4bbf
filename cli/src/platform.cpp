// The commands that prepare and run the system: tables, registrations, schedules, the worker.

#include "commands.hpp"
#include "parts.hpp"
#include "temporal.hpp"

#include <addrflow/v1/evidence.pb.h>
#include <addrflow/v1/provision.pb.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <addrflow/aaa/setup.hpp>
#include <addrflow/catalog/payload.hpp>
#include <addrflow/ledger/migrator.hpp>
#include <addrflow/netbox/client.hpp>
#include <addrflow/workflows/names.hpp>
#include <addrflow/workflows/netbox.hpp>
#include <addrflow/workflows/registry.hpp>
#include <tempora/metrics_server.hpp>
#include <tempora/prometheus.hpp>
#include <tempora/replayer.hpp>
#include <tempora/schedule.hpp>

#include <array>
#include <charconv>
#include <csignal>
#include <expected>
#include <fstream>
#include <iterator>
#include <map>
#include <optional>
#include <thread>

namespace addrflow::cli {
namespace {

struct NamedSchedule {
  std::string id;
  std::string when;
  tempora::Schedule schedule;
};

template <class Request>
NamedSchedule scheduled(const std::string& id, const std::string& cron, const std::string& when,
                        const char* workflow, const Request& request, const std::string& note) {
  tempora::Schedule schedule;
  schedule.spec.cron = {cron};
  schedule.workflow_type = workflow;
  schedule.start.id = id;
  schedule.start.task_queue = workflows::kTaskQueue;
  schedule.input = tempora::encode_all(request);
  schedule.note = note;
  return {id, when, std::move(schedule)};
}

template <class Request>
Request of_family(const char* family) {
  Request request;
  request.set_family(family);
  return request;
}

// Every schedule of ours; `apply` makes them all.
std::vector<NamedSchedule> all_schedules() {
  constexpr const char* kMeasures = "counts states, pools and leaks for /metrics of the workers";
  constexpr const char* kNote =
      "deletes revoked rows after 90 days, counts leaks and stuck revocations";
  // The seeds' names (R20): daily at 02:00 UTC (A43, C4), every five minutes (A44, C5).
  return {
      scheduled("network.cleanup_ipv4_stale_reservations", "0 2 * * *", "daily at 02:00 UTC",
                workflows::kCleanupStaleAddresses, of_family<v1::CleanupRequest>("ipv4"), kNote),
      scheduled("network.cleanup_ipv6_stale_prefixes", "0 2 * * *", "daily at 02:00 UTC",
                workflows::kCleanupStaleAddresses, of_family<v1::CleanupRequest>("ipv6_pd"), kNote),
      scheduled("network.emit_ipv4_lifecycle_metrics", "*/5 * * * *", "every 5 minutes",
                workflows::kEmitLifecycleMetrics, of_family<v1::EmitMetricsRequest>("ipv4"),
                kMeasures),
      scheduled("network.emit_ipv6_metrics", "*/5 * * * *", "every 5 minutes",
                workflows::kEmitLifecycleMetrics, of_family<v1::EmitMetricsRequest>("ipv6_pd"),
                kMeasures),
      scheduled("addrflow-catch-up", "* * * * *", "every minute", workflows::kCatchUpDueWork,
                v1::CatchUpRequest{}, "wakes lines with unconfirmed effects or a gate to look at"),
      scheduled("addrflow-catch-up-netbox", "* * * * *", "every minute", workflows::kCatchUpNetbox,
                v1::NetboxCatchUpRequest{},
                "sends NetBox what it missed, and releases whose quarantine is over")};
}

tempora::Outcome<std::string> apply_schedule(const tempora::Client& client,
                                             const NamedSchedule& wanted) {
  auto created = client.schedules().create(wanted.id, wanted.schedule);
  if (created) return "created, " + wanted.when;
  if (created.error().code != tempora::ErrorCode::kAlreadyExists)
    return std::unexpected(created.error());
  // Whoever paused it meant it: only what it does and when is ours to set.
  const auto proto = tempora::to_proto(wanted.schedule);
  auto updated = client.schedules().update(wanted.id, [&proto](tempora::ScheduleProto& present) {
    *present.mutable_spec() = proto.spec();
    *present.mutable_action() = proto.action();
    return true;
  });
  if (!updated) return std::unexpected(updated.error());
  return "updated, " + wanted.when;
}

Exit apply_schedules(const Output& output, const tempora::Client& client) {
  std::vector<std::pair<std::string, std::string>> facts;
  for (const NamedSchedule& wanted : all_schedules()) {
    auto done = apply_schedule(client, wanted);
    if (!done) return report(output, done.error());
    facts.emplace_back(wanted.id, *done);
  }
  return output.facts(facts);
}

Exit list_schedules(const Output& output, const tempora::Client& client) {
  auto found = client.schedules().list();
  if (!found) {
    return report(output, found.error());
  }
  std::vector<std::pair<std::string, std::string>> facts;
  for (const tempora::ScheduleEntry& entry : *found) {
    facts.emplace_back(entry.id, fmt::format("{}{}", entry.workflow_type,
                                             entry.paused ? " (paused: " + entry.note + ")" : ""));
  }
  return output.facts(facts);
}

// SIGINT and SIGTERM, taken by one thread that waits for them; all others have them blocked.
sigset_t block_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return signals;
}

// "127.0.0.1:9464" or "[::1]:9464"; without a value where the text is empty.
std::expected<std::optional<tempora::MetricsServerOptions>, std::string> metrics_place(
    const std::string& text) {
  if (text.empty()) return std::nullopt;
  const auto colon = text.rfind(':');
  std::string_view address = std::string_view{text}.substr(0, colon);
  if (address.starts_with('[') && address.ends_with(']'))
    address = address.substr(1, address.size() - 2);
  tempora::MetricsServerOptions options{.address = std::string{address}};
  const char* const end = text.data() + text.size();
  const char* const port = colon == std::string::npos ? end : text.data() + colon + 1;
  const auto [rest, error] = std::from_chars(port, end, options.port);
  if (address.empty() || error != std::errc{} || rest != end || options.port == 0) {
    return std::unexpected(
        fmt::format("'{}' is no address and port such as 127.0.0.1:9464 or [::1]:9464", text));
  }
  return options;
}

// Where the ledger cannot be read, the worker's own measurements say more than an error.
std::string all_metrics(const tempora::PrometheusMetrics& measured, WorkerParts& parts) {
  try {
    return measured.text() + parts.emitted_metrics();
  } catch (const ledger::LedgerError& error) {
    spdlog::warn("metrics: the ledger cannot be read: {}", error.what());
    return measured.text();
  }
}

using Facts = std::vector<std::pair<std::string, std::string>>;

struct SaidOfPool {
  std::string tenant;
  std::string name;
  std::string said;
};

// "TENANT/NAME=…"
std::optional<SaidOfPool> said_of_pool(const std::string& text) {
  const auto slash = text.find('/');
  const auto equals = text.find('=', slash == std::string::npos ? 0 : slash);
  if (slash == std::string::npos || equals == std::string::npos) return std::nullopt;
  return SaidOfPool{.tenant = text.substr(0, slash),
                    .name = text.substr(slash + 1, equals - slash - 1),
                    .said = text.substr(equals + 1)};
}

// 0: no number.
std::int64_t vrf_id_of(const std::string& text) {
  std::int64_t id = 0;
  const char* end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, id);
  return error == std::errc{} && stopped == end ? id : 0;
}

std::expected<ledger::MigrateOptions, std::string> migrate_options(
    const MigrateArguments& arguments) {
  ledger::MigrateOptions options;
  options.dry_run = arguments.dry_run;
  options.legacy_schema = arguments.from;
  const auto grace = parse_duration(arguments.grace);
  if (!grace || grace->count() < 0) {
    return std::unexpected("grace: no duration: " + arguments.grace);
  }
  options.grace = std::chrono::ceil<std::chrono::hours>(*grace);
  for (const std::string& text : arguments.pools) {
    const auto pool = said_of_pool(text);
    if (!pool) return std::unexpected("pool: must be TENANT/NAME=PREFIX: " + text);
    options.pools.push_back({.tenant = pool->tenant, .name = pool->name, .prefix = pool->said});
  }
  for (const std::string& text : arguments.vrfs) {
    const auto pool = said_of_pool(text);
    const std::int64_t id = pool ? vrf_id_of(pool->said) : 0;
    if (id <= 0) return std::unexpected("vrf: must be TENANT/NAME=ID, NetBox's number: " + text);
    options.vrfs.push_back({.tenant = pool->tenant, .name = pool->name, .vrf_id = id});
  }
  return options;
}

Exit say_status(const Output& output, const std::vector<ledger::Migration>& migrations) {
  Facts facts;
  for (const ledger::Migration& migration : migrations) {
    facts.emplace_back(fmt::format("{:04} {}", migration.version, migration.name),
                       migration.changed   ? "CHANGED since it was applied"
                       : migration.applied ? "applied"
                                           : "missing");
  }
  return output.facts(facts);
}

Exit say_differences(const Output& output, const std::vector<ledger::Difference>& differences) {
  Facts facts;
  bool whole = true;
  for (const ledger::Difference& one : differences) {
    using Kind = ledger::Difference::Kind;
    whole = whole && one.kind == Kind::kExtra;
    facts.emplace_back(one.what, one.kind == Kind::kMissing ? "MISSING"
                                 : one.kind == Kind::kExtra
                                     ? "not made by a migration"
                                     : fmt::format("DIFFERENT: expected '{}', found '{}'",
                                                   one.expected, one.found));
  }
  if (whole) {
    facts.emplace_back("schema", "everything that the migrations make is there");
  }
  output.facts(facts);
  return whole ? Exit::kDone : Exit::kRefused;
}

// What was done, and every row of the platform's that could not come along.
Exit say_migrations(const Output& output, const std::vector<ledger::Migration>& migrations,
                    const std::optional<ledger::LegacyReport>& legacy, const std::string& verb) {
  Facts facts;
  for (const ledger::Migration& migration : migrations) {
    facts.emplace_back(fmt::format("{:04} {}", migration.version, migration.name), verb);
  }
  if (legacy) {
    facts.emplace_back(
        "platform's tables",
        fmt::format("in schema {}, with {}", legacy->schema,
                    legacy->shape == "lifecycle" ? "lifecycle columns" : "the status column"));
    for (const auto& [what, count] : legacy->counts) {
      facts.emplace_back(what, std::to_string(count));
    }
    for (const ledger::SetAside& row : legacy->set_aside) {
      facts.emplace_back(
          fmt::format("put aside {} {}", row.table, row.id),
          fmt::format("{} of {}/{}: {}", row.space, row.tenant, row.subscriber, row.why));
    }
    for (std::size_t i = 0; i < legacy->problems.size(); ++i) {
      facts.emplace_back(fmt::format("PROBLEM {}", i + 1), legacy->problems[i]);
    }
  }
  if (facts.empty()) {
    facts.emplace_back("migrations", "nothing to do");
  }
  output.facts(facts);
  return legacy && !legacy->problems.empty() ? Exit::kRefused : Exit::kDone;
}

}  // namespace

Exit run_worker(const Shell& shell) {
  const sigset_t signals = block_signals();
  const auto place = metrics_place(shell.settings.worker.metrics);
  if (!place) {
    return shell.output.fail(Exit::kUsage, "invalid_argument", "worker.metrics: " + place.error());
  }
  const auto measured = std::make_shared<tempora::PrometheusMetrics>();
  auto client = connect_temporal(measured);
  if (!client) {
    return report(shell.output, client.error());
  }
  try {
    WorkerParts parts(shell.settings, *client);
    std::optional<tempora::MetricsServer> scraped;
    if (*place) scraped.emplace([&] { return all_metrics(*measured, parts); }, **place);
    parts.start();
    spdlog::info("worker {} polls {}", client->identity(), parts.queues());
    if (scraped) {
      spdlog::info("measurements are at http://{}/metrics", shell.settings.worker.metrics);
    }
    int signal = 0;
    sigwait(&signals, &signal);
    spdlog::info("stopping: what is under way is answered first");
    parts.shutdown();
    return Exit::kDone;
  } catch (const std::exception& error) {
    return shell.output.fail(Exit::kUnknown, "worker_failed", error.what());
  }
}

Exit run_migrate(const Shell& shell, const MigrateArguments& arguments) {
  return guarded(shell, [&] {
    ledger::Migrator migrator(shell.settings.ledger.url);
    if (arguments.direction == "verify") {
      return say_differences(shell.output, migrator.verify());
    }
    if (arguments.direction == "status") {
      return say_status(shell.output, migrator.status());
    }
    if (arguments.direction == "down") {
      const auto undone =
          arguments.to >= 0
              ? migrator.down_to(arguments.to, arguments.dry_run, arguments.discard_new)
              : migrator.down(arguments.steps == 0 ? 1 : arguments.steps, arguments.dry_run,
                              arguments.discard_new);
      return say_migrations(shell.output, undone, {},
                            arguments.dry_run ? "would be undone" : "undone");
    }
    auto options = migrate_options(arguments);
    if (!options) {
      return shell.output.fail(Exit::kUsage, "invalid_argument", options.error());
    }
    const auto result = migrator.up(*options);
    return say_migrations(shell.output, result.applied, result.legacy,
                          arguments.dry_run ? "would be applied" : "applied");
  });
}

Exit run_setup(const Shell& shell) {
  auto client = connect_temporal();
  if (!client) {
    return report(shell.output, client.error());
  }
  std::map<std::string, tempora::SearchAttributeType> wanted;
  for (const char* name : kSearchAttributes) {
    wanted.emplace(name, tempora::SearchAttributeType::kKeyword);
  }
  if (auto added = client->add_search_attributes(wanted); !added) {
    return report(shell.output, added.error());
  }
  return guarded(shell, [&] {
    std::vector<std::pair<std::string, std::string>> facts{
        {"Temporal", fmt::format("search attributes {}", fmt::join(kSearchAttributes, ", "))}};
    aaa::Database database(aaa_settings(shell.settings));
    aaa::set_up(database);
    facts.emplace_back("AAA", "tables, indexes and the suspended group");
    if (auto netbox = netbox_client(shell.settings)) {
      auto lines = netbox->setup(netbox::Clock::now() + shell.settings.netbox.timeout);
      if (!lines) {
        return shell.output.fail(Exit::kUnknown, "netbox_failed",
                                 "NetBox: " + lines.error().message);
      }
      for (const std::string& line : *lines) {
        facts.emplace_back("NetBox", line);
      }
    } else {
      facts.emplace_back("NetBox", "not configured (NETBOX_API_URL)");
    }
    return shell.output.facts(facts, {"NetBox"});
  });
}

Exit run_schedules(const Shell& shell, const std::string& action, const std::string& schedule_id) {
  auto client = connect_temporal();
  if (!client) {
    return report(shell.output, client.error());
  }
  if (action == "apply") {
    return apply_schedules(shell.output, *client);
  }
  if (action == "list") {
    return list_schedules(shell.output, *client);
  }
  if (schedule_id.empty()) {
    return shell.output.fail(Exit::kUsage, "invalid_argument", "id: name the schedule");
  }
  const auto schedules = client->schedules();
  const auto done = action == "trigger"   ? schedules.trigger(schedule_id)
                    : action == "pause"   ? schedules.pause(schedule_id, "paused by an operator")
                    : action == "unpause" ? schedules.unpause(schedule_id)
                                          : schedules.remove(schedule_id);
  if (!done) {
    return report(shell.output, done.error());
  }
  const std::map<std::string, std::string> said{
      {"trigger", "triggered"}, {"pause", "paused"}, {"unpause", "goes on"}, {"delete", "deleted"}};
  return shell.output.facts({{schedule_id, said.at(action)}});
}

Exit run_replay(const Shell& shell, const std::vector<std::string>& files) {
  const tempora::Replayer replayer(workflows::workflow_registry());
  std::vector<std::pair<std::string, std::string>> facts;
  bool all_replay = true;
  for (const std::string& file : files) {
    std::ifstream stream(file, std::ios::binary);
    if (!stream) {
      return shell.output.fail(Exit::kUsage, "invalid_argument",
                               fmt::format("files: '{}' cannot be read", file));
    }
    const std::string json{std::istreambuf_iterator<char>(stream), {}};
    const auto replayed = replayer.replay_json(json);
    all_replay = all_replay && replayed.has_value();
    facts.emplace_back(file, replayed ? "replays" : replayed.error().message);
  }
  shell.output.facts(facts);
  return all_replay ? Exit::kDone : Exit::kRefused;
}

Exit run_config(const Shell& shell) {
  Settings settings = shell.settings;
  std::vector<std::pair<std::string, std::string>> facts;
  for (const SettingField& field : fields_of(settings)) {
    std::string value;
    if (auto* const* text = std::get_if<std::string*>(&field.value)) {
      value = field.sensitive ? ((*text)->empty() ? "not set" : "set") : **text;
    } else if (auto* const* number = std::get_if<int*>(&field.value)) {
      value = std::to_string(**number);
    } else {
      value = format_duration(*std::get<milliseconds*>(field.value));
    }
    facts.emplace_back(
        field.key, fmt::format("{:<12} {} ({}{}{})", value.empty() ? "-" : value, field.help,
                               field.environment, field.alias.empty() ? "" : ", ", field.alias));
  }
  return shell.output.facts(facts);
}

}  // namespace addrflow::cli
