#include "settings.hpp"

#include <fmt/format.h>

#include <toml++/toml.h>
#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <set>

namespace addrflow::cli {
namespace {

struct Unit {
  std::string_view name;
  std::int64_t milliseconds;
};
constexpr std::array<Unit, 5> kUnits{
    {{"ms", 1}, {"s", 1'000}, {"m", 60'000}, {"h", 3'600'000}, {"d", 86'400'000}}};

std::string environment_name(std::string_view key) {
  std::string name = "ADDRFLOW_";
  for (const char c : key) {
    name += c == '.' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  }
  return name;
}

std::expected<void, std::string> assign(const SettingField& field, const std::string& text) {
  if (auto* const* string_value = std::get_if<std::string*>(&field.value)) {
    **string_value = text;
    return {};
  }
  if (auto* const* duration = std::get_if<milliseconds*>(&field.value)) {
    auto parsed = parse_duration(text);
    if (!parsed) {
      return std::unexpected(parsed.error());
    }
    **duration = *parsed;
    return {};
  }
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size() || number < 0) {
    return std::unexpected(fmt::format("'{}' is not a whole number of 0 or more", text));
  }
  *std::get<int*>(field.value) = number;
  return {};
}

std::expected<void, std::string> read_node(const SettingField& field, const toml::node& node) {
  if (const auto text = node.value_exact<std::string>()) {
    if (std::holds_alternative<int*>(field.value)) {
      return std::unexpected("expected a whole number, got a string");
    }
    return assign(field, *text);
  }
  if (const auto number = node.value_exact<std::int64_t>()) {
    if (!std::holds_alternative<int*>(field.value)) {
      return std::unexpected(std::holds_alternative<milliseconds*>(field.value)
                                 ? "expected a duration such as \"3s\", got a bare number"
                                 : "expected a string, got a number");
    }
    return assign(field, std::to_string(*number));
  }
  return std::unexpected("expected a string or a whole number");
}

std::expected<void, std::string> read_file(const std::string& file,
                                           const std::vector<SettingField>& fields) {
  toml::table root;
  try {
    root = toml::parse_file(file);
  } catch (const toml::parse_error& error) {
    return std::unexpected(
        fmt::format("{}:{}: {}", file, error.source().begin.line, error.description()));
  }
  for (const auto& [section_name, section] : root) {
    const toml::table* table = section.as_table();
    if (table == nullptr) {
      return std::unexpected(fmt::format("{}: '{}' must be a section", file, section_name.str()));
    }
    for (const auto& [name, node] : *table) {
      const std::string key = fmt::format("{}.{}", section_name.str(), name.str());
      const auto field = std::ranges::find(fields, key, &SettingField::key);
      if (field == fields.end()) {
        return std::unexpected(
            fmt::format("{}:{}: unknown key '{}'", file, node.source().begin.line, key));
      }
      if (auto read = read_node(*field, node); !read) {
        return std::unexpected(
            fmt::format("{}:{}: {}: {}", file, node.source().begin.line, key, read.error()));
      }
    }
  }
  return {};
}

}  // namespace

std::expected<milliseconds, std::string> parse_duration(const std::string& text) {
  std::int64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  const std::string_view unit_name(rest, static_cast<std::size_t>(end - rest));
  const auto unit = std::ranges::find(kUnits, unit_name, &Unit::name);
  constexpr std::int64_t kLongest_ms = 36'500LL * 86'400'000;
  if (error != std::errc{} || unit == kUnits.end() || number < 0 ||
      number > kLongest_ms / unit->milliseconds) {
    return std::unexpected(fmt::format(
        "'{}' is not a duration such as 250ms, 3s, 5m, 2h or 1d, at most 36500d", text));
  }
  return milliseconds{number * unit->milliseconds};
}

std::string format_duration(milliseconds duration) {
  for (auto unit = kUnits.rbegin(); unit != kUnits.rend(); ++unit) {
    if (duration.count() != 0 && duration.count() % unit->milliseconds == 0) {
      return fmt::format("{}{}", duration.count() / unit->milliseconds, unit->name);
    }
  }
  return fmt::format("{}ms", duration.count());
}

std::vector<SettingField> fields_of(Settings& settings) {
  std::vector<SettingField> fields;
  const auto add = [&fields](std::string key, auto* value, std::string help, std::string alias = "",
                             bool sensitive = false) {
    std::string environment = environment_name(key);
    fields.push_back({std::move(key), std::move(environment), std::move(alias), std::move(help),
                      sensitive, value});
  };
  auto& [ledger, aaa, netbox, radius, pace, worker, log, test] = settings;

  add("ledger.url", &ledger.url, "PostgreSQL of the ledger; empty: libpq's PG* variables", "",
      true);
  add("ledger.pool_size", &ledger.pool_size, "connections to the ledger");
  add("ledger.statement_timeout", &ledger.statement_timeout, "limit of one statement");
  add("ledger.lock_timeout", &ledger.lock_timeout, "limit of a wait for a row");
  add("ledger.connect_timeout", &ledger.connect_timeout, "limit of a connection attempt");
  add("ledger.keep_holdings", &ledger.keep_holdings, "closed holdings; 0: for ever");
  add("ledger.keep_revoked", &ledger.keep_revoked, "revoked working rows");
  add("ledger.stale_allocated", &ledger.stale_allocated, "allocated for longer is a leak");
  add("ledger.stuck_revoking", &ledger.stuck_revoking, "revoking for longer is stuck");
  add("ledger.longest_lease", &ledger.longest_lease,
      "longest Session-Timeout or lease a session may have; no gate opens sooner without proof");

  add("aaa.url", &aaa.url, "PostgreSQL with FreeRADIUS' tables; empty: the ledger's", "", true);
  add("aaa.pool_size", &aaa.pool_size, "connections to the AAA database");
  add("aaa.suspended_group", &aaa.suspended_group, "RADIUS group of a suspended line");
  add("aaa.session_timeout", &aaa.session_timeout,
      "Session-Timeout of every line, in whole seconds; 0: the lines' own is left alone");
  add("aaa.statement_timeout", &aaa.statement_timeout, "limit of one statement");

  add("netbox.url", &netbox.url, "NetBox, with or without /api; empty: no NetBox",
      "NETBOX_API_URL");
  add("netbox.token", &netbox.token, "reference to the token: env:NAME or file:/path");
  add("netbox.timeout", &netbox.timeout, "limit of one request");
  add("netbox.concurrency", &netbox.concurrency, "requests at once; more than 8 gains nothing");

  add("radius.server", &radius.server, "default NAS, where no NAS row matches (host or host:port)",
      "RADIUS_SERVER");
  add("radius.secret", &radius.secret, "reference to the default NAS's secret");
  add("radius.initial_retransmission", &radius.initial_retransmission, "RFC 5080 IRT");
  add("radius.max_retransmission", &radius.max_retransmission, "RFC 5080 MRT");
  add("radius.max_duration", &radius.max_duration, "RFC 5080 MRD: one request, all sendings");
  add("radius.max_sendings", &radius.max_sendings, "RFC 5080 MRC");
  add("radius.window", &radius.window, "requests at once to one NAS, at most 64");
  add("radius.rate_per_nas", &radius.rate_per_nas, "requests a second to one NAS");
  add("radius.dialect_dir", &radius.dialect_dir, "directory with more dialects; empty: none");
  add("radius.plans", &radius.plans,
      "TOML file with the dialects' variables, by plan; empty: none");

  add("pace.answer_wait", &pace.answer_wait, "how long an answer waits for its effects");
  add("pace.effect_retry", &pace.effect_retry, "first wait before an effect is tried again");
  add("pace.effect_retry_max", &pace.effect_retry_max, "longest wait between two tries");
  add("pace.gate_poll", &pace.gate_poll, "how soon the release gate is looked at again, at first");
  add("pace.gate_poll_max", &pace.gate_poll_max,
      "longest wait between two looks at a gate that has been closed for long");
  add("pace.ledger_timeout", &pace.ledger_timeout, "limit of a ledger or AAA activity");
  add("pace.netbox_timeout", &pace.netbox_timeout, "limit of a NetBox activity");
  add("pace.radius_timeout", &pace.radius_timeout, "limit of a RADIUS activity");
  add("pace.netbox_pursuit", &pace.netbox_pursuit, "how long a service pursues a NetBox effect");
  add("pace.idle", &pace.idle, "how long a service with nothing to do stays open");
  add("pace.compose_timeout", &pace.compose_timeout, "limit of one step of a composition");

  add("worker.workflow_slots", &worker.workflow_slots, "workflow tasks at once");
  add("worker.ledger_slots", &worker.ledger_slots, "ledger and AAA activities at once");
  add("worker.compose_slots", &worker.compose_slots, "waiting compositions at once");
  add("worker.radius_slots", &worker.radius_slots, "RADIUS activities at once");
  add("worker.cached_workflows", &worker.cached_workflows, "workflows kept in memory");
  add("worker.cached_workflows_mib", &worker.cached_workflows_mib,
      "MiB that they may hold together, estimated; 0: no limit");
  add("worker.sticky_timeout", &worker.sticky_timeout,
      "how soon another worker takes over a lost worker's workflows");
  add("worker.shutdown_grace", &worker.shutdown_grace, "time for activities to end at a stop");
  add("worker.metrics", &worker.metrics,
      "where Prometheus scrapes /metrics, for instance 127.0.0.1:9464; empty: nowhere");

  add("log.level", &log.level, "trace, debug, info, warn, error");
  add("test.pause", &test.pause, "fault tests only: where to stop this process once");
  return fields;
}

std::expected<Settings, std::string> load_settings(const std::string& config_file,
                                                   const Environment& environment) {
  Settings settings;
  const std::vector<SettingField> fields = fields_of(settings);

  std::string file = config_file;
  if (const char* from_environment = environment("ADDRFLOW_CONFIG");
      file.empty() && from_environment != nullptr) {
    file = from_environment;
  }
  if (!file.empty()) {
    if (auto read = read_file(file, fields); !read) {
      return std::unexpected(read.error());
    }
  }
  for (const SettingField& field : fields) {
    for (const std::string& name : {field.alias, field.environment}) {
      const char* text = name.empty() ? nullptr : environment(name.c_str());
      if (text == nullptr || *text == '\0') {
        continue;
      }
      if (auto assigned = assign(field, text); !assigned) {
        return std::unexpected(fmt::format("{} ({}): {}", name, field.key, assigned.error()));
      }
    }
  }
  static const std::set<std::string> kLevels{"trace", "debug", "info", "warn", "error"};
  if (!kLevels.contains(settings.log.level)) {
    return std::unexpected(fmt::format("log.level: '{}' is none of trace, debug, info, warn, error",
                                       settings.log.level));
  }
  if (settings.aaa.session_timeout.count() % 1'000 != 0)
    return std::unexpected("aaa.session_timeout: is no number of whole seconds");
  if (settings.worker.cached_workflows_mib > 0 && settings.worker.cached_workflows == 0) {
    return std::unexpected(
        "worker.cached_workflows_mib: limits nothing where worker.cached_workflows is 0");
  }
  return settings;
}

}  // namespace addrflow::cli
