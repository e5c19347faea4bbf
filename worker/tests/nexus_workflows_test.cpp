// Nexus: operations that go on as a workflow: its end is theirs, links lead from one history to the
// other, a second caller joins, a repeated request starts nothing twice.
#include <temporal/api/history/v1/message.pb.h>

#include <algorithm>
#include <atomic>
#include <peers.hpp>

#include "nexus_stage.hpp"

namespace tempora::behaviour {
namespace {

namespace enums = temporal::api::enums::v1;

const NexusOperation<std::string, std::string> kWork{"works", "work"};

// Does what it is told, later.
struct Work {
  bool told = false;
  void go(Context&) { told = true; }
  Task<std::string> run(Context& ctx, std::string order) {
    if (order == "fail") throw ApplicationError{"no", "Refused", true};
    if (order == "wait") co_await ctx.wait_until([this] { return told; });
    if (order == "anew") ctx.continue_as_new(std::string{"later"});
    co_await ctx.sleep(20ms);
    co_return "did " + order;
  }
};
const Definition<Work> kWorkflow{"NexusWork", run(&Work::run), signal("go", &Work::go)};

struct Caller {
  Task<std::string> run(Context& ctx, std::string endpoint, std::string order) {
    const auto call = ctx.nexus(endpoint).start(kWork, order);
    std::string text;
    try {
      const std::string token = co_await call.started();
      if (token.empty()) text = "no token: ";
      text += co_await call.result();
    } catch (const Failure& failure) {
      text += why(failure);
    }
    co_return text;
  }
};
const Definition<Caller> kCaller{"NexusWorkCaller", run(&Caller::run)};

// The id of the workflow that an order stands for.
std::string id_of(const Stage& stage, const std::string& order) {
  return "work-" + stage.queue() + "-" + order;
}

struct Works {
  Stage& stage;
  explicit Works(Stage& given) : stage(given) {
    stage.runs(kWorkflow).runs(kCaller).serves(
        kWork, [&given](NexusContext& context, const std::string& order) {
          return context.start_workflow(
              kWorkflow, {.id = id_of(given, order), .conflict = IdConflictPolicy::kUseExisting},
              order);
        });
    stage.start_worker();
  }
  OwnEndpoint endpoint{stage};
  WorkflowHandle call(const std::string& order) {
    return stage.start(kCaller, endpoint.name(), order);
  }
};

TEST(NexusWorkflows, EndTheirOperationAsTheyEnd) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    Works works{stage};
    const std::pair<std::string, std::string> cases[] = {
        {"this", "did this"}, {"fail", "failed: Refused"}, {"anew", "did later"}};
    std::vector<WorkflowHandle> calls;
    for (const auto& [order, expected] : cases) calls.push_back(works.call(order));
    for (std::size_t i = 0; i < calls.size(); ++i)
      EXPECT_EQ(must(calls[i].result<std::string>()), cases[i].second) << cases[i].first;
  });
}

TEST(NexusWorkflows, AreLinkedWithTheirCaller) {
  NEEDS_SERVER();
  with_default_cache([](Stage& stage) {
    Works works{stage};
    const auto call = works.call("this");
    must(call.result<std::string>());
    const auto callers = must(call.history());
    const auto started =
        std::ranges::find(callers->events(), enums::EVENT_TYPE_NEXUS_OPERATION_STARTED,
                          [](const auto& event) { return event.event_type(); });
    ASSERT_NE(started, callers->events().end());
    ASSERT_EQ(started->links_size(), 1);
    EXPECT_EQ(started->links(0).workflow_event().workflow_id(), id_of(stage, "this"));

    const auto handlers = must(stage.client().handle(id_of(stage, "this")).history());
    const auto& first = handlers->events(0);
    const auto& begun = first.workflow_execution_started_event_attributes();
    ASSERT_EQ(begun.completion_callbacks_size(), 1);
    const auto& links = begun.completion_callbacks(0).links_size() > 0
                            ? begun.completion_callbacks(0).links()
                            : first.links();
    ASSERT_EQ(links.size(), 1);
    EXPECT_EQ(links.Get(0).workflow_event().workflow_id(), call.id());
  });
}

TEST(NexusWorkflows, EndTheOperationsOfAllWhoJoined) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    Works works{stage};
    const auto first = works.call("wait");
    const auto second = works.call("wait");
    for (const auto& call : {first, second})
      stage.wait_for_event(call, enums::EVENT_TYPE_NEXUS_OPERATION_STARTED);
    must(stage.client().handle(id_of(stage, "wait")).signal("go"));
    EXPECT_EQ(must(first.result<std::string>()), "did wait");
    EXPECT_EQ(must(second.result<std::string>()), "did wait");
  });
}

TEST(NexusWorkflows, AreStartedOnceByARepeatedRequest) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    std::atomic<int> tries{0};
    stage.runs(kWorkflow).runs(kCaller).serves(
        kWork, [&](NexusContext& context, const std::string& order) {
          auto run = context.start_workflow(kWorkflow, {.id = id_of(stage, order)}, order);
          // The answer is lost, in a way.
          if (++tries == 1) throw NexusHandlerError{NexusErrorType::kUnavailable, "once more"};
          return run;
        });
    const OwnEndpoint endpoint{stage};
    stage.start_worker();
    const auto call = stage.start(kCaller, endpoint.name(), std::string{"wait"});
    stage.wait_for_event(call, enums::EVENT_TYPE_NEXUS_OPERATION_STARTED);
    must(stage.client().handle(id_of(stage, "wait")).signal("go"));
    EXPECT_EQ(must(call.result<std::string>()), "did wait");
    EXPECT_EQ(tries, 2);
  });
}

TEST(NexusWorkflows, ThatCannotBeStartedRefuseTheOperation) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kWorkflow).runs(kCaller).serves(
        kWork, [&](NexusContext& context, const std::string& order) {
          return context.start_workflow(kWorkflow, {.id = id_of(stage, order)}, order);
        });
    const OwnEndpoint endpoint{stage};
    stage.start_worker();
    StartOptions taken = stage.start_options();
    taken.id = id_of(stage, "wait");
    const auto other = stage.start_with(kWorkflow, taken, std::string{"wait"});
    const auto call = stage.start(kCaller, endpoint.name(), std::string{"wait"});
    EXPECT_EQ(must(call.result<std::string>()), "refused: INTERNAL");
    must(other.terminate("the test is over"));
  });
}

}  // namespace
}  // namespace tempora::behaviour
