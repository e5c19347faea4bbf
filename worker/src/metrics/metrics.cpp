#include <tempora/metrics.hpp>

namespace tempora {

namespace {

class NoMetrics : public Metrics {
 public:
  void count(std::string_view, std::uint64_t, MetricTags) override {}
  void observe_seconds(std::string_view, double, MetricTags) override {}
  void gauge(std::string_view, double, MetricTags) override {}
};

}  // namespace

std::shared_ptr<Metrics> no_metrics() {
  static const std::shared_ptr<Metrics> none = std::make_shared<NoMetrics>();
  return none;
}

}  // namespace tempora
