// Where the runtime's measurements go. Names and tags are those of the Temporal
// SDKs (`temporal_` prefix, durations in seconds), so that dashboards made for
// any other worker fit this one.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

namespace tempora {

struct MetricTag {
  std::string_view key;
  std::string_view value;
};
using MetricTags = std::span<const MetricTag>;

// Implementations are called from many threads at once and must not block.
// `name` and tags live only during the call.
class Metrics {
 public:
  virtual ~Metrics() = default;
  virtual void count(std::string_view name, std::uint64_t increment, MetricTags tags) = 0;
  virtual void observe_seconds(std::string_view name, double seconds, MetricTags tags) = 0;
  virtual void gauge(std::string_view name, double value, MetricTags tags) = 0;
};

// Throws every measurement away.
std::shared_ptr<Metrics> no_metrics();

}  // namespace tempora
