#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <map>
#include <mutex>
#include <shared_mutex>
#include <span>
#include <tempora/prometheus.hpp>
#include <vector>

namespace tempora {

namespace {

// In seconds, those of the official SDKs; without an own row the last one.
constexpr double kEndToEnd[] = {0.1, 0.5, 1, 1.5, 5, 10, 30, 60, 300, 1'800, 3'600, 36'000, 86'400};
constexpr double kTask[] = {0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1};
constexpr double kActivity[] = {0.05, 0.1, 0.5, 1, 5, 10, 60};
constexpr double kScheduleToStart[] = {0.1, 0.5, 1, 5, 10, 100, 1'000};
constexpr double kOther[] = {0.05, 0.1, 0.5, 1, 2.5, 10};

std::span<const double> bounds_of(std::string_view name) {
  if (name.ends_with("workflow_endtoend_latency")) return kEndToEnd;
  if (name.ends_with("workflow_task_execution_latency")) return kTask;
  if (name.ends_with("workflow_task_replay_latency")) return kTask;
  if (name.ends_with("activity_execution_latency")) return kActivity;
  if (name.ends_with("schedule_to_start_latency")) return kScheduleToStart;
  return kOther;
}

// Atomically, from many threads; std::atomic<double>::fetch_add is missing in some libraries.
void add(std::atomic<double>& sum, double value) {
  double seen = sum.load(std::memory_order_relaxed);
  while (!sum.compare_exchange_weak(seen, seen + value, std::memory_order_relaxed)) {
  }
}

bool is_name_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

void append_name(std::string& out, std::string_view name) {
  for (const char c : name) out += is_name_character(c) ? c : '_';
}

// {key="value",…}; a task queue or a type may have any characters.
std::string labels_of(MetricTags tags) {
  std::string out;
  for (const MetricTag& tag : tags) {
    if (!out.empty()) out += ',';
    append_name(out, tag.key);
    out += "=\"";
    for (const char c : tag.value) {
      if (c == '\n') {
        out += "\\n";
        continue;
      }
      if (c == '\\' || c == '"') out += '\\';
      out += c;
    }
    out += '"';
  }
  return out;
}

enum class Type { kCounter, kGauge, kHistogram };

struct Series {
  std::atomic<std::uint64_t> count{0};
  std::atomic<double> value{0};  // of a gauge; the sum of a histogram
  std::vector<std::atomic<std::uint64_t>> buckets{};
};

struct Family {
  Type type;
  std::span<const double> bounds{};
  std::map<std::string, Series, std::less<>> series{};  // by labels
};

// A counter may have its suffix in its name already.
std::string_view suffix_of(Type type, std::string_view name) {
  switch (type) {
    case Type::kCounter: return name.ends_with("_total") ? "" : "_total";
    case Type::kHistogram: return "_seconds";
    case Type::kGauge: return "";
  }
  return "";
}

std::string number(double value) {
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  return std::isnan(value) ? "NaN" : fmt::format("{}", value);
}

void append_line(std::string& out, std::string_view name, std::string_view suffix,
                 std::string_view labels, std::string_view more, std::string_view value) {
  out += name;
  out += suffix;
  if (!labels.empty() || !more.empty()) {
    out += '{';
    out += labels;
    if (!labels.empty() && !more.empty()) out += ',';
    out += more;
    out += '}';
  }
  out += ' ';
  out += value;
  out += '\n';
}

// The buckets say "this many up to here", each with all those before it.
void append_histogram(std::string& out, std::string_view name, std::string_view labels,
                      std::span<const double> bounds, const Series& series) {
  std::uint64_t so_far = 0;
  for (std::size_t i = 0; i < bounds.size(); ++i) {
    so_far += series.buckets[i].load(std::memory_order_relaxed);
    append_line(out, name, "_bucket", labels, fmt::format("le=\"{}\"", bounds[i]),
                std::to_string(so_far));
  }
  so_far += series.buckets.back().load(std::memory_order_relaxed);
  append_line(out, name, "_bucket", labels, "le=\"+Inf\"", std::to_string(so_far));
  append_line(out, name, "_sum", labels, {}, number(series.value.load()));
  append_line(out, name, "_count", labels, {}, std::to_string(so_far));
}

}  // namespace

struct PrometheusMetrics::Impl {
  explicit Impl(PrometheusOptions given) : options(given) {}

  // Calls `change` with the series. Nothing is ever removed, so that a shared lock is enough once
  // the series exists. A name that was used for another type before is dropped, too.
  template <class F>
  void with(Type type, std::string_view name, MetricTags tags, F change) {
    const std::string labels = labels_of(tags);
    {
      const std::shared_lock lock{mutex};
      if (const auto family = families.find(name);
          family != families.end() && family->second.type == type) {
        if (const auto found = family->second.series.find(labels);
            found != family->second.series.end()) {
          return change(found->second, family->second.bounds);
        }
      }
    }
    const std::unique_lock lock{mutex};
    if (count_series >= options.max_series) return void(++dropped);
    Family& family = families.try_emplace(std::string{name}, Family{.type = type}).first->second;
    if (family.type != type) return void(++dropped);
    const auto [found, is_new] = family.series.try_emplace(labels);
    if (is_new) {
      ++count_series;
      if (type == Type::kHistogram) {
        family.bounds = bounds_of(name);
        found->second.buckets = std::vector<std::atomic<std::uint64_t>>(family.bounds.size() + 1);
      }
    }
    change(found->second, family.bounds);
  }

  const PrometheusOptions options;
  mutable std::shared_mutex mutex;
  std::map<std::string, Family, std::less<>> families;
  std::size_t count_series = 0;
  std::uint64_t dropped = 0;
};

PrometheusMetrics::PrometheusMetrics(PrometheusOptions options)
    : impl_(std::make_unique<Impl>(options)) {}
PrometheusMetrics::~PrometheusMetrics() = default;

void PrometheusMetrics::count(std::string_view name, std::uint64_t increment, MetricTags tags) {
  impl_->with(Type::kCounter, name, tags, [increment](Series& series, std::span<const double>) {
    series.count.fetch_add(increment, std::memory_order_relaxed);
  });
}

void PrometheusMetrics::observe_seconds(std::string_view name, double seconds, MetricTags tags) {
  impl_->with(
      Type::kHistogram, name, tags, [seconds](Series& series, std::span<const double> bounds) {
        const auto at = std::ranges::lower_bound(bounds, seconds) - bounds.begin();
        series.buckets[static_cast<std::size_t>(at)].fetch_add(1, std::memory_order_relaxed);
        add(series.value, seconds);
      });
}

void PrometheusMetrics::gauge(std::string_view name, double value, MetricTags tags) {
  impl_->with(Type::kGauge, name, tags, [value](Series& series, std::span<const double>) {
    series.value.store(value, std::memory_order_relaxed);
  });
}

std::string PrometheusMetrics::text() const {
  std::string out;
  const std::shared_lock lock{impl_->mutex};
  for (const auto& [plain, family] : impl_->families) {
    std::string name;
    append_name(name, plain);
    const bool counter = family.type == Type::kCounter;
    const bool histogram = family.type == Type::kHistogram;
    if (impl_->options.suffixes) name += suffix_of(family.type, name);
    out += fmt::format("# TYPE {} {}\n", name,
                       counter ? "counter" : (histogram ? "histogram" : "gauge"));
    for (const auto& [labels, series] : family.series) {
      if (histogram) {
        append_histogram(out, name, labels, family.bounds, series);
      } else {
        append_line(out, name, {}, labels, {},
                    counter ? std::to_string(series.count.load()) : number(series.value.load()));
      }
    }
  }
  if (impl_->dropped > 0) {
    out += "# TYPE tempora_dropped_measurements counter\n";
    append_line(out, "tempora_dropped_measurements", {}, {}, {}, std::to_string(impl_->dropped));
  }
  return out;
}

}  // namespace tempora
