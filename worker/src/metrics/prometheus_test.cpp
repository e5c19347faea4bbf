#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <tempora/prometheus.hpp>
#include <thread>
#include <vector>

namespace tempora {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(PrometheusMetrics, WritesWhatPrometheusReads) {
  PrometheusMetrics metrics;
  const MetricTag tags[] = {{"namespace", "default"}, {"workflow_type", "Hello"}};
  metrics.count("temporal_workflow_completed", 2, tags);
  metrics.count("temporal_workflow_completed", 1, tags);
  metrics.gauge("temporal_num_pollers", 5, {});
  metrics.observe_seconds("temporal_request_latency", 0.06, {});
  metrics.observe_seconds("temporal_request_latency", 0.1, {});
  metrics.observe_seconds("temporal_request_latency", 100, {});
  EXPECT_EQ(metrics.text(),
            "# TYPE temporal_num_pollers gauge\n"
            "temporal_num_pollers 5\n"
            "# TYPE temporal_request_latency_seconds histogram\n"
            "temporal_request_latency_seconds_bucket{le=\"0.05\"} 0\n"
            "temporal_request_latency_seconds_bucket{le=\"0.1\"} 2\n"
            "temporal_request_latency_seconds_bucket{le=\"0.5\"} 2\n"
            "temporal_request_latency_seconds_bucket{le=\"1\"} 2\n"
            "temporal_request_latency_seconds_bucket{le=\"2.5\"} 2\n"
            "temporal_request_latency_seconds_bucket{le=\"10\"} 2\n"
            "temporal_request_latency_seconds_bucket{le=\"+Inf\"} 3\n"
            "temporal_request_latency_seconds_sum 100.16\n"
            "temporal_request_latency_seconds_count 3\n"
            "# TYPE temporal_workflow_completed_total counter\n"
            "temporal_workflow_completed_total{namespace=\"default\",workflow_type=\"Hello\"} 3\n");
}

TEST(PrometheusMetrics, NamesOfTheDocumentationWithoutSuffixes) {
  PrometheusMetrics metrics{{.suffixes = false}};
  metrics.count("temporal_request", 1, {});
  EXPECT_THAT(metrics.text(), HasSubstr("temporal_request 1\n"));
}

TEST(PrometheusMetrics, ACounterThatEndsInItsSuffixGetsNoSecond) {
  PrometheusMetrics metrics;
  metrics.count("temporal_local_activity_total", 1, {});
  EXPECT_THAT(metrics.text(), HasSubstr("temporal_local_activity_total 1\n"));
}

TEST(PrometheusMetrics, ATagMayHoldAnything) {
  PrometheusMetrics metrics;
  const MetricTag tags[] = {{"task-queue", "a\"b\\c\nd"}};
  metrics.gauge("temporal_num_pollers", 1, tags);
  EXPECT_THAT(metrics.text(),
              HasSubstr("temporal_num_pollers{task_queue=\"a\\\"b\\\\c\\nd\"} 1\n"));
}

TEST(PrometheusMetrics, ATagOutOfControlDoesNotEatTheMemory) {
  PrometheusMetrics metrics{{.max_series = 2}};
  for (const std::string_view id : {"1", "2", "3", "2"}) {
    const MetricTag tags[] = {{"id", id}};
    metrics.count("temporal_request", 1, tags);
  }
  EXPECT_THAT(metrics.text(), HasSubstr("temporal_request_total{id=\"2\"} 2\n"));
  EXPECT_THAT(metrics.text(), Not(HasSubstr("id=\"3\"")));
  EXPECT_THAT(metrics.text(), HasSubstr("tempora_dropped_measurements 1\n"));
}

TEST(PrometheusMetrics, ANameKeepsItsType) {
  PrometheusMetrics metrics;
  metrics.count("temporal_request", 1, {});
  metrics.gauge("temporal_request", 7, {});
  EXPECT_THAT(metrics.text(), HasSubstr("temporal_request_total 1\n"));
  EXPECT_THAT(metrics.text(), HasSubstr("tempora_dropped_measurements 1\n"));
}

TEST(PrometheusMetrics, LosesNothingBetweenThreads) {
  PrometheusMetrics metrics;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&metrics] {
        for (int n = 0; n < 10'000; ++n) {
          metrics.count("temporal_request", 1, {});
          metrics.observe_seconds("temporal_request_latency", 0.5, {});
        }
      });
    }
  }
  EXPECT_THAT(metrics.text(), HasSubstr("temporal_request_total 40000\n"));
  EXPECT_THAT(metrics.text(), HasSubstr("temporal_request_latency_seconds_sum 20000\n"));
}

}  // namespace
}  // namespace tempora
