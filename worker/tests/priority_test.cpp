// Priority and fairness reach the server and the tasks. The order of tasks is the server's
// business.
#include <temporal/api/history/v1/message.pb.h>
#include <temporal/api/workflowservice/v1/request_response.pb.h>

#include <map>
#include <mutex>
#include <peers.hpp>

#include "between_transport.hpp"
#include "stage.hpp"

namespace tempora::behaviour {
namespace {

namespace api = temporal::api::workflowservice::v1;

std::string text_of(const temporal::api::common::v1::Priority& priority) {
  return std::to_string(priority.priority_key()) + " " + priority.fairness_key() + " " +
         std::to_string(static_cast<int>(priority.fairness_weight()));
}

const ActivityType<Void, Void> kUrgent{
    "urgent",
    {.start_to_close = 10s,
     .priority = {.key = 1, .fairness_key = "tenant", .fairness_weight = 5}}};

struct Child {
  Task<void> run(Context&) { co_return; }
};
const Definition<Child> kChild{"Child", run(&Child::run)};

struct Parent {
  Task<void> run(Context& ctx) {
    ChildWorkflowOptions options;
    options.priority = {.key = 5, .fairness_key = "crowd", .fairness_weight = 2};
    co_await ctx.execute_child(kChild, options);
    ActivityOptions other;
    other.eager = false;
    co_await ctx.execute(kUrgent, other);
    other.priority.key = 2;  // the rest is left as the type says
    co_await ctx.execute(kUrgent, other);
  }
};
const Definition<Parent> kParent{"Parent", run(&Parent::run)};

TEST(Priorities, OfRunChildAndActivityReachTheirTasks) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    std::mutex mutex;
    std::vector<std::string> polled;
    const auto between = std::make_shared<BetweenTransport>(stage.client().transport());
    between->on_answer = [&](const google::protobuf::Message& answer) {
      const auto* task = dynamic_cast<const api::PollActivityTaskQueueResponse*>(&answer);
      if (task == nullptr || task->task_token().empty()) return;
      const std::lock_guard lock{mutex};
      polled.push_back(text_of(task->priority()));
    };
    stage.runs(kParent).runs(kChild);
    Worker worker{between, stage.client().namespace_name(), stage.options};
    worker.add(kParent);
    worker.add(kChild);
    worker.add(kUrgent, [](ActivityContext&, const Void&) { return Void{}; });
    worker.start();
    StartOptions how = stage.start_options();
    how.priority = {.key = 4, .fairness_key = "customer", .fairness_weight = 3};
    const auto handle = stage.start_with(kParent, how);
    must(handle.result<void>());
    worker.shutdown();
    std::map<int, std::string> recorded;
    for (const auto& event : must(handle.history())->events()) {
      if (event.has_workflow_execution_started_event_attributes())
        recorded[0] = text_of(event.workflow_execution_started_event_attributes().priority());
      if (event.has_start_child_workflow_execution_initiated_event_attributes())
        recorded[1] =
            text_of(event.start_child_workflow_execution_initiated_event_attributes().priority());
    }
    EXPECT_EQ(recorded[0], "4 customer 3");
    EXPECT_EQ(recorded[1], "5 crowd 2");
    EXPECT_EQ(polled, (std::vector<std::string>{"1 tenant 5", "2 tenant 5"}));
  });
}

}  // namespace
}  // namespace tempora::behaviour
