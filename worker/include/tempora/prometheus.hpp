// Measurements for Prometheus: collects what client and workers tell, and writes it in the text
// format that Prometheus scrapes. Put one object into `ConnectionOptions::metrics` (its workers
// then have it too) and hand `text()` out at `/metrics`.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <tempora/metrics.hpp>

namespace tempora {

struct PrometheusOptions {
  // "_total" at counters and "_seconds" at latencies, as dashboards for the Go SDK expect. Without
  // them the names are those of the SDKs' documentation.
  bool suffixes = true;
  // A series is a name with one set of tag values. What would make more of them is dropped and
  // counted in `tempora_dropped_measurements`: a tag out of control must not eat the memory.
  std::size_t max_series = 10'000;
};

class PrometheusMetrics final : public Metrics {
 public:
  // What an answer with `text()` has as its content type.
  static constexpr std::string_view kContentType = "text/plain; version=0.0.4; charset=utf-8";

  explicit PrometheusMetrics(PrometheusOptions options = {});
  ~PrometheusMetrics() override;

  void count(std::string_view name, std::uint64_t increment, MetricTags tags) override;
  void observe_seconds(std::string_view name, double seconds, MetricTags tags) override;
  void gauge(std::string_view name, double value, MetricTags tags) override;

  // All series, by name and tags.
  std::string text() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tempora
