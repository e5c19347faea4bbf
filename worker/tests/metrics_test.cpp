// What a worker measures, under the names of the official SDKs.
#include <peers.hpp>
#include <tempora/prometheus.hpp>

#include "stage.hpp"

namespace tempora::behaviour {
namespace {

const ActivityType<int, int> kDoubles{
    "doubles", {.start_to_close = 10s, .retry = RetryPolicy{.initial_interval = 10ms}}};

struct Measured {
  Task<int> run(Context& ctx, int number) {
    const int twice = co_await ctx.execute(kDoubles, number);
    co_await ctx.timer(10ms);
    const int more = co_await ctx.start_local(kDoubles, twice);
    if (number < 0) throw ApplicationError{"negative", "Negative"};
    co_return more;
  }
};
const Definition<Measured> kMeasured{"Measured", run(&Measured::run)};

// The number at the end of the first line that begins with `series`; -1: there is none.
double value_of(const std::string& text, const std::string& series) {
  const auto at = text.find("\n" + series);
  if (at == std::string::npos) return -1;
  const auto end = text.find('\n', at + 1);
  const std::string line = text.substr(at + 1, end - at - 1);
  return std::stod(line.substr(line.rfind(' ') + 1));
}

TEST(Measurements, HaveTheNamesThatDashboardsKnow) {
  NEEDS_SERVER();
  const auto metrics = std::make_shared<PrometheusMetrics>();
  Stage stage{connect({.metrics = metrics}), 1};
  stage.runs(kMeasured).does(kDoubles, [](ActivityContext& ctx, const int& number) {
    if (ctx.info().attempt == 1) throw std::runtime_error{"once more"};
    return number * 2;
  });
  stage.start_worker();
  EXPECT_EQ(must(stage.start(kMeasured, 3).result<int>()), 12);
  EXPECT_FALSE(stage.start(kMeasured, -3).result<int>());
  stage.worker().shutdown();
  const std::string text = metrics->text();
  const std::string tags =
      "{namespace=\"default\",task_queue=\"" + stage.queue() + "\",workflow_type=\"Measured\"}";
  EXPECT_EQ(value_of(text, "temporal_workflow_completed_total" + tags), 1) << text;
  EXPECT_EQ(value_of(text, "temporal_workflow_failed_total" + tags), 1);
  EXPECT_EQ(value_of(text, "temporal_workflow_endtoend_latency_seconds_count" + tags), 2);
  EXPECT_GE(value_of(text, "temporal_activity_execution_failed_total"), 2);
  for (const std::string name :
       {"temporal_request_total{namespace=\"default\",operation=\"StartWorkflowExecution\"}",
        "temporal_request_latency_seconds_count",
        "temporal_long_request_total{namespace=\"default\",operation=\"PollWorkflowTaskQueue\"}",
        "temporal_worker_start_total", "temporal_num_pollers",
        "temporal_worker_task_slots_available", "temporal_worker_task_slots_used",
        "temporal_sticky_cache_size", "temporal_sticky_cache_bytes",
        "temporal_sticky_cache_hit_total", "temporal_workflow_task_queue_poll_succeed_total",
        "temporal_workflow_task_schedule_to_start_latency_seconds_count",
        "temporal_workflow_task_execution_latency_seconds_count",
        "temporal_activity_schedule_to_start_latency_seconds_count",
        "temporal_activity_execution_latency_seconds_count",
        "temporal_activity_succeed_endtoend_latency_seconds_count",
        "temporal_local_activity_total{",
        "temporal_local_activity_succeed_endtoend_latency_seconds_count"}) {
    EXPECT_GE(value_of(text, name), 0) << name << "\n" << text;
  }
  // Every slot came back.
  for (const std::string type : {"ActivityWorker", "LocalActivityWorker", "WorkflowWorker"}) {
    const std::string worker =
        "{namespace=\"default\",task_queue=\"" + stage.queue() + "\",worker_type=\"" + type + "\"}";
    EXPECT_EQ(value_of(text, "temporal_worker_start_total" + worker), 1) << type;
    EXPECT_EQ(value_of(text, "temporal_worker_task_slots_used" + worker), 0) << type;
    EXPECT_EQ(value_of(text, "temporal_worker_task_slots_available" + worker), 100) << type;
  }
}

TEST(Measurements, TellOfCallsThatFail) {
  NEEDS_SERVER();
  const auto metrics = std::make_shared<PrometheusMetrics>();
  const Client client = connect({.metrics = metrics});
  EXPECT_FALSE(client.handle(unique("nobody")).describe());
  EXPECT_EQ(value_of(metrics->text(),
                     "temporal_request_failure_total{namespace=\"default\",operation="
                     "\"DescribeWorkflowExecution\",status_code=\"NotFound\"}"),
            1)
      << metrics->text();
}

}  // namespace
}  // namespace tempora::behaviour
