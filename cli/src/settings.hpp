// Everything that an operator can set, in one place: a TOML file, and an environment variable for
// each key.
//
// Order: environment > file (`--config`, `ADDRFLOW_CONFIG`) > default. The key `pace.answer_wait`
// is read from the variable ADDRFLOW_PACE_ANSWER_WAIT; names that others fixed are read as well
// (NETBOX_API_URL, RADIUS_SERVER …, A41). Secrets stand here only as references ("env:NAME",
// "file:/path"); connection URLs come from the file or the environment, never from the command
// line, where every user of the machine could read them.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <expected>
#include <functional>
#include <string>
#include <variant>
#include <vector>

namespace addrflow::cli {

using std::chrono::milliseconds;

struct Settings {
  struct Ledger {
    std::string url;
    int pool_size = 20;  // A66
    milliseconds statement_timeout{10'000};
    milliseconds lock_timeout{5'000};
    milliseconds connect_timeout{5'000};
    milliseconds keep_holdings{0};  // 0: for ever
    milliseconds keep_revoked{std::chrono::hours{24 * 90}};
    milliseconds stale_allocated{std::chrono::hours{24}};
    milliseconds stuck_revoking{std::chrono::hours{1}};
    milliseconds longest_lease{0};
  } ledger;

  struct Aaa {
    std::string url;
    int pool_size = 8;
    std::string suspended_group = "suspended";
    milliseconds session_timeout{0};  // 0: not sent
    milliseconds statement_timeout{10'000};
  } aaa;

  struct Netbox {
    std::string url;
    std::string token = "env:NETBOX_API_TOKEN";
    milliseconds timeout{30'000};
    int concurrency = 6;
  } netbox;

  struct Radius {
    std::string server;
    std::string secret = "env:RADIUS_SECRET";
    milliseconds initial_retransmission{2'000};
    milliseconds max_retransmission{16'000};
    milliseconds max_duration{30'000};
    int max_sendings = 5;
    int window = 32;
    int rate_per_nas = 100;
    std::string dialect_dir;
    std::string plans;
  } radius;

  struct Pace {
    milliseconds answer_wait{3'000};
    milliseconds effect_retry{2'000};
    milliseconds effect_retry_max{60'000};
    milliseconds gate_poll{15'000};
    milliseconds gate_poll_max{600'000};
    milliseconds ledger_timeout{30'000};
    milliseconds netbox_timeout{70'000};
    milliseconds radius_timeout{45'000};
    milliseconds netbox_pursuit{600'000};
    milliseconds idle{0};
    milliseconds compose_timeout{300'000};
  } pace;

  struct Worker {
    int workflow_slots = 100;
    int ledger_slots = 20;
    int compose_slots = 200;
    int radius_slots = 64;
    int cached_workflows = 1000;
    int cached_workflows_mib = 0;
    milliseconds sticky_timeout{5'000};
    milliseconds shutdown_grace{10'000};
    std::string metrics;
  } worker;

  struct Log {
    std::string level = "info";
  } log;

  // Of all sessions: what is sent is a lease too.
  milliseconds longest_lease() const { return std::max(ledger.longest_lease, aaa.session_timeout); }

  struct Test {
    std::string pause;  // "radius.before_send:<file>": stop this process once at that point, for
                        // the fault tests
  } test;
};

// One key of the configuration and the place of its value.
struct SettingField {
  std::string key;          // "pace.answer_wait"
  std::string environment;  // "ADDRFLOW_PACE_ANSWER_WAIT"
  std::string alias;        // a name that others fixed; empty: none
  std::string help;
  bool sensitive = false;  // may hold a password: printed as "set" or "not set"
  std::variant<std::string*, int*, milliseconds*> value;
};

// Every field of `settings`, in the order in which they are printed.
std::vector<SettingField> fields_of(Settings& settings);

using Environment = std::function<const char*(const char* name)>;

// The error names the file, the line or variable, and the key.
std::expected<Settings, std::string> load_settings(const std::string& config_file,
                                                   const Environment& environment);

// "250ms", "3s", "5m", "2h", "1d".
std::expected<milliseconds, std::string> parse_duration(const std::string& text);
std::string format_duration(milliseconds duration);

}  // namespace addrflow::cli
