// Nexus: every way to cancel an operation.
#include <temporal/api/enums/v1/event_type.pb.h>

#include <peers.hpp>

#include "nexus_stage.hpp"

namespace tempora::behaviour {
namespace {

namespace enums = temporal::api::enums::v1;

const NexusOperation<std::string, std::string> kWait{"waits", "wait"};

struct Waiting {
  bool told = false;
  void go(Context&) { told = true; }
  Task<std::string> run(Context& ctx, std::string order) {
    if (order != "stubborn") {
      co_await ctx.wait_until([this] { return told; });
      co_return "told";
    }
    co_await ctx.cancelled();
    co_await ctx.shielded(
        [this, &ctx]() -> Task<void> { co_await ctx.wait_until([this] { return told; }); });
    co_return "finished anyway";
  }
};
const Definition<Waiting> kWaiting{"NexusCancelWaiting", run(&Waiting::run),
                                   signal("go", &Waiting::go)};

struct Caller {
  bool may_go = false;
  void go(Context&) { may_go = true; }
  Task<std::string> run(Context& ctx, std::string endpoint, std::string order, int type) {
    NexusOperationOptions options;
    options.cancellation = static_cast<NexusCancellationType>(type);
    const auto call = ctx.nexus(endpoint).start(kWait, order, options);
    co_await call.started();
    call.cancel("enough");
    Task<std::string> outcome = outcome_of(call.result());
    const std::string text = co_await outcome;
    // Whoever ends takes the request with it.
    co_await ctx.wait_until([this] { return may_go; });
    co_return text;
  }
};
const Definition<Caller> kCaller{"NexusCanceller", run(&Caller::run), signal("go", &Caller::go)};

struct Waits {
  Stage& stage;
  OwnEndpoint endpoint{stage};
  explicit Waits(Stage& given) : stage(given) {
    stage.runs(kWaiting).runs(kCaller).serves(
        kWait, [](NexusContext& context, const std::string& order) {
          return context.start_workflow(kWaiting, {.id = order, .run_timeout = 60s},
                                        order.substr(0, order.find('-')));
        });
    stage.start_worker();
  }
  WorkflowHandle call(const std::string& id, NexusCancellationType type) {
    return stage.start(kCaller, endpoint.name(), id, static_cast<int>(type));
  }
  WorkflowHandle waiting(const std::string& id) const { return stage.client().handle(id); }
};

TEST(NexusCancellation, IsWaitedFor) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    Waits waits{stage};
    const auto call = waits.call(unique("plain"), NexusCancellationType::kWaitCompleted);
    must(call.signal("go"));
    EXPECT_EQ(must(call.result<std::string>()), "cancelled");

    const std::string id = unique("stubborn");
    const auto second = waits.call(id, NexusCancellationType::kWaitCompleted);
    stage.wait_for_event(second, enums::EVENT_TYPE_NEXUS_OPERATION_CANCEL_REQUEST_COMPLETED);
    must(second.signal("go"));
    must(waits.waiting(id).signal("go"));
    EXPECT_EQ(must(second.result<std::string>()), "finished anyway");
  });
}

TEST(NexusCancellation, IsNotWaitedForByTryCancelAndOnceItWasPassedOn) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    Waits waits{stage};
    for (const auto type :
         {NexusCancellationType::kTryCancel, NexusCancellationType::kWaitRequested}) {
      const std::string id = unique("stubborn");
      const auto call = waits.call(id, type);
      stage.wait_for_event(call, enums::EVENT_TYPE_NEXUS_OPERATION_CANCEL_REQUEST_COMPLETED);
      must(call.signal("go"));
      EXPECT_EQ(must(call.result<std::string>()), "cancelled");
      must(waits.waiting(id).signal("go"));
      EXPECT_EQ(must(waits.waiting(id).result<std::string>()), "finished anyway");
    }
  });
}

TEST(NexusCancellation, IsNotHeardOfIfAbandoned) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    Waits waits{stage};
    const std::string id = unique("plain");
    const auto call = waits.call(id, NexusCancellationType::kAbandon);
    must(call.signal("go"));
    EXPECT_EQ(must(call.result<std::string>()), "cancelled");
    EXPECT_EQ(stage.count_events(waits.waiting(id),
                                 enums::EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED),
              0);
    must(waits.waiting(id).signal("go"));
    EXPECT_EQ(must(waits.waiting(id).result<std::string>()), "told");
  });
}

// The workflow's own cancellation reaches what it has under way.
struct Scoped {
  Task<std::string> run(Context& ctx, std::string endpoint, std::string order) {
    Task<std::string> outcome = outcome_of(ctx.nexus(endpoint).execute(kWait, order));
    const std::string text = co_await outcome;
    co_return text;
  }
};
const Definition<Scoped> kScoped{"NexusScoped", run(&Scoped::run)};

TEST(NexusCancellation, ComesWithTheScope) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kScoped);
    Waits waits{stage};
    const std::string id = unique("plain");
    const auto call = stage.start(kScoped, waits.endpoint.name(), id);
    stage.wait_for_event(call, enums::EVENT_TYPE_NEXUS_OPERATION_STARTED);
    must(call.cancel("enough"));
    EXPECT_EQ(must(call.result<std::string>()), "cancelled");
    EXPECT_EQ(must(waits.waiting(id).describe()).status, WorkflowStatus::kCanceled);
  });
}

}  // namespace
}  // namespace tempora::behaviour
