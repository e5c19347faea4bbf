// What dashboards and alerts are fed with (A44, A47–A51, C5). A schedule counts it; what it has
// counted stands in the ledger as the text of a scrape, so that each of many workers hands out the
// same numbers, and nothing of a tenant or pool that is gone.
#include <fmt/format.h>
#include <addrflow/domain/ids.hpp>
#include <addrflow/ledger/ledger.hpp>
#include <initializer_list>
#include <string_view>
#include <utility>

#include "rows.hpp"
#include "store.hpp"

namespace addrflow::ledger {
namespace {

struct Names {
  const char* states;
  const char* total;
  const char* available;
  const char* utilization;
  const char* leaks;
  const char* integrated;
};
constexpr Names kIpv4{.states = "ipv4_lifecycle_state_count",
                      .total = "ipv4_pool_total_addresses",
                      .available = "ipv4_pool_available_count",
                      .utilization = "ipv4_pool_utilization_percent",
                      .leaks = "ipv4_address_leak_count",
                      .integrated = "ipv4_netbox_integrated_count"};
constexpr Names kIpv6{.states = "ipv6_lifecycle_state_count",
                      .total = "ipv6_pool_total_prefixes",
                      .available = "ipv6_pool_available_count",
                      .utilization = "ipv6_pool_utilization_percent",
                      .leaks = "ipv6_prefix_leak_total",
                      .integrated = "ipv6_netbox_integrated_count"};

// Whose lines or pools of a family there are.
constexpr const char* kTenants =
    "WITH who AS (SELECT tenant_id FROM ip_pools WHERE family = $1"
    " UNION SELECT tenant_id FROM ip_reservations WHERE family = $1)";

// The text format of Prometheus, version 0.0.4.
class Exposition {
 public:
  void begin(const char* name, std::string_view help) {
    name_ = name;
    text_ += fmt::format("# HELP {0} {1}\n# TYPE {0} gauge\n", name, help);
  }
  void add(std::initializer_list<std::pair<const char*, std::string>> labels,
           const std::string& value) {
    text_ += name_;
    char before = '{';
    for (const auto& [label, said] : labels) {
      text_ += before;
      text_ += fmt::format("{}=\"{}\"", label, escaped(said));
      before = ',';
    }
    text_ += fmt::format("}} {}\n", value);
    ++count_;
  }
  const std::string& text() const { return text_; }
  std::int64_t count() const { return count_; }

 private:
  static std::string escaped(const std::string& said) {
    std::string text;
    for (const char c : said) {
      if (c == '\n') {
        text += "\\n";
        continue;
      }
      if (c == '\\' || c == '"') text += '\\';
      text += c;
    }
    return text;
  }

  const char* name_ = "";
  std::string text_;
  std::int64_t count_ = 0;
};

void add_states(Tx& tx, const std::string& family, const Names& names, Exposition& exposition,
                v1::EmitMetricsResult& result) {
  exposition.begin(names.states, "Lines in each state.");
  for (const auto& row : tx.exec_params(
           std::string{kTenants} +
               " SELECT who.tenant_id, s.state::text, coalesce(c.n, 0) FROM who"
               " CROSS JOIN unnest(enum_range(NULL::lifecyclestate)) s(state)"
               " LEFT JOIN (SELECT tenant_id, lifecycle_state, count(*) AS n FROM ip_reservations"
               "  WHERE family = $1 GROUP BY 1, 2) c"
               "  ON c.tenant_id = who.tenant_id AND c.lifecycle_state = s.state ORDER BY 1, 2",
           family)) {
    exposition.add({{"tenant_id", row[0].c_str()}, {"state", row[1].c_str()}}, row[2].c_str());
    if (std::string_view{row[1].c_str()} != "revoked")
      result.set_lines(result.lines() + row[2].as<std::int64_t>());
  }
}

void add_pools(Tx& tx, const std::string& family, const Names& names, Exposition& exposition,
               v1::EmitMetricsResult& result) {
  const auto pools = tx.exec_params(
      "SELECT tenant_id, pool_name, total_addresses, available_count,"
      " round(100.0 * assigned_count / greatest(total_addresses, 1), 2)"
      " FROM ip_pools WHERE family = $1 ORDER BY 1, 2",
      family);
  const auto each = [&](const char* name, std::string_view help, int column) {
    exposition.begin(name, help);
    for (const auto& row : pools)
      exposition.add({{"tenant_id", row[0].c_str()}, {"pool_name", row[1].c_str()}},
                     row[column].c_str());
  };
  each(names.total, "Size of a pool, in what a line gets of it.", 2);
  each(names.available, "What a pool can give now.", 3);
  each(names.utilization, "Held of a pool, per cent.", 4);
  result.set_pools(static_cast<std::int64_t>(pools.size()));
}

void add_health(Tx& tx, const std::string& family, const Names& names, const Settings& settings,
                Exposition& exposition, v1::EmitMetricsResult& result) {
  const auto tenants = tx.exec_params(
      fmt::format(
          "{} SELECT who.tenant_id, count(*) FILTER (WHERE {}),"
          " count(*) FILTER (WHERE r.netbox_ip_id IS NOT NULL AND upper_inf(h.period))"
          " FROM who LEFT JOIN ip_reservations r ON r.tenant_id = who.tenant_id AND r.family = $1"
          " LEFT JOIN holdings h ON h.id = r.holding_id GROUP BY 1 ORDER BY 1",
          kTenants, kAllocatedTooLong),
      family, static_cast<std::int64_t>(settings.stale_allocated.count()));
  exposition.begin(names.leaks, "Allocated for longer than ledger.stale_allocated.");
  for (const auto& row : tenants) {
    exposition.add({{"tenant_id", row[0].c_str()}}, row[1].c_str());
    result.set_leaks(result.leaks() + row[1].as<std::int64_t>());
  }
  exposition.begin(names.integrated, "Held space that NetBox knows under an id.");
  for (const auto& row : tenants) exposition.add({{"tenant_id", row[0].c_str()}}, row[2].c_str());
  result.set_tenants(static_cast<std::int64_t>(tenants.size()));
}

void add_unconfirmed(Tx& tx, Exposition& exposition) {
  exposition.begin("addrflow_unconfirmed_effects",
                   "Effects that are due and not confirmed, by system.");
  for (const auto& row :
       tx.exec(fmt::format("SELECT e.tenant_id, e.system, count(*) FROM effects e"
                           " WHERE {} AND e.not_before <= now() GROUP BY 1, 2 ORDER BY 1, 2",
                           kUnconfirmed))) {
    exposition.add({{"tenant_id", row[0].c_str()}, {"system", row[1].c_str()}}, row[2].c_str());
  }
}

void keep(Tx& tx, const std::string& part, const Exposition& exposition) {
  tx.exec_params(
      "INSERT INTO emitted_metrics (part, exposition) VALUES ($1, $2)"
      " ON CONFLICT (part) DO UPDATE SET exposition = excluded.exposition,"
      " emitted_at = clock_timestamp()",
      part, exposition.text());
}

}  // namespace

// One pool a transaction, as the daily cleanup does it. A pool that cannot be counted in the time
// of a statement keeps its last numbers.
void Ledger::count_pools(const std::string& family, v1::EmitMetricsResult& result,
                         const std::function<void(const v1::EmitMetricsResult&)>& beat) {
  const auto due = store_->as_owner([&](Tx& tx) {
    return tx.exec_params(
        "SELECT id::text FROM ip_pools WHERE family = $1 AND (counted_at IS NULL"
        " OR counted_at < clock_timestamp() - interval '1 minute') ORDER BY id",
        family);
  });
  for (const auto& pool : due) {
    try {
      store_->as_owner([&](Tx& tx) {
        tx.exec_params("SELECT roll_up_pool($1::uuid)", pool[0].c_str());
        return true;
      });
    } catch (const LedgerError& error) {
      if (!error.retryable()) throw;
      result.set_errors(result.errors() + 1);
    }
    if (beat) beat(result);
  }
}

v1::EmitMetricsResult Ledger::emit_metrics(
    const v1::EmitMetricsRequest& request,
    const std::function<void(const v1::EmitMetricsResult&)>& beat) {
  const std::string family = request.family().empty() ? "ipv4" : request.family();
  if (family != domain::kFamilyIpv4 && family != domain::kFamilyIpv6Pd)
    throw LedgerError{ErrorCode::kInvalidArgument, "family: no such family: " + family};
  const Names& names = family == domain::kFamilyIpv4 ? kIpv4 : kIpv6;
  v1::EmitMetricsResult counted;
  counted.set_family(family);
  count_pools(family, counted, beat);
  return store_->in_snapshot([&](Tx& tx) {
    v1::EmitMetricsResult result = counted;
    Exposition of_family;
    add_states(tx, family, names, of_family, result);
    add_pools(tx, family, names, of_family, result);
    add_health(tx, family, names, settings_, of_family, result);
    Exposition effects;
    add_unconfirmed(tx, effects);
    keep(tx, family, of_family);
    keep(tx, "effects", effects);
    result.set_series(of_family.count() + effects.count());
    return result;
  });
}

std::string Ledger::emitted_metrics() {
  return store_->as_owner([&](Tx& tx) {
    std::string text;
    std::string when;
    for (const auto& row : tx.exec(
             "SELECT part, extract(epoch FROM emitted_at)::bigint, exposition FROM emitted_metrics"
             " ORDER BY part")) {
      text += row[2].c_str();
      when += fmt::format("addrflow_metrics_emitted_timestamp_seconds{{part=\"{}\"}} {}\n",
                          row[0].c_str(), row[1].c_str());
    }
    if (when.empty()) return text;
    return text +
           "# HELP addrflow_metrics_emitted_timestamp_seconds When these were counted.\n"
           "# TYPE addrflow_metrics_emitted_timestamp_seconds gauge\n" +
           when;
  });
}

}  // namespace addrflow::ledger
