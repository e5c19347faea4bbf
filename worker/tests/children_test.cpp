// Children: results, signals, every way to cancel them, what becomes of them when the parent ends,
// retries, time-outs, and a start that is refused.
#include <temporal/api/enums/v1/event_type.pb.h>

#include <atomic>
#include <map>
#include <peers.hpp>

#include "stage.hpp"

namespace tempora::behaviour {
namespace {

namespace enums = temporal::api::enums::v1;

// Does what it is told: returns, fails, or waits for a signal or its cancellation.
struct Child {
  std::string heard;

  Task<std::string> run(Context& ctx, std::string order) {
    if (order == "fail") throw ApplicationError{"no", "Refused", true};
    if (order == "fail_once" && ctx.info().attempt == 1) throw ApplicationError{"not yet"};
    if (order == "wait") {
      co_await ctx.wait_until([this] { return !heard.empty(); });
      co_return "heard " + heard;
    }
    if (order == "ignore_cancel") {
      co_await ctx.cancelled();
      co_await ctx.shielded([&ctx]() -> Task<void> { co_await ctx.sleep(20ms); });
      co_return "finished anyway";
    }
    co_return order;
  }
  void tell(Context&, std::string text) { heard = text; }
};
const Definition<Child> kChild{"Child", run(&Child::run), signal("tell", &Child::tell)};

std::string describe(const Failure& failure) {
  const auto* child = dynamic_cast<const ChildWorkflowError*>(&failure);
  if (child == nullptr) return "?";
  if (child->already_started()) return "already started";
  if (is_cancellation(failure)) return "cancelled";
  if (const auto* error = find_application_error(failure)) return "failed: " + error->type();
  if (dynamic_cast<const TimeoutError*>(failure.cause()) != nullptr) return "timed out";
  if (dynamic_cast<const TerminatedError*>(failure.cause()) != nullptr) return "terminated";
  return "?";
}

struct Wish {
  std::string order;
  std::string id;
  int cancellation = 0;  // 0: none, else ChildCancellationType + 1
  int parent_close = 0;
  bool leave = false;  // without waiting for the end
  bool stay = false;   // until it is told to go
  bool retry = false;
  int run_timeout_ms = 0;
  std::string tell;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Wish, order, id, cancellation, parent_close, leave, stay, retry,
                                   run_timeout_ms, tell)

struct Parent {
  bool may_go = false;
  void go(Context&) { may_go = true; }
  Task<std::string> run(Context& ctx, Wish wish) {
    ChildWorkflowOptions options;
    options.id = wish.id;
    if (wish.cancellation > 0)
      options.cancellation = static_cast<ChildCancellationType>(wish.cancellation - 1);
    options.parent_close = static_cast<ParentClosePolicy>(wish.parent_close);
    if (wish.retry) options.retry = RetryPolicy{.initial_interval = 10ms, .maximum_attempts = 3};
    options.run_timeout = std::chrono::milliseconds{wish.run_timeout_ms};
    const auto child = ctx.start_child(kChild, options, wish.order);
    std::string text;
    try {
      co_await child.started();
      if (!wish.tell.empty()) co_await child.signal("tell", wish.tell);
      if (wish.leave) co_return "left";
      if (wish.cancellation > 0) child.cancel("enough");
      text = co_await child.result();
    } catch (const Failure& failure) {
      text = describe(failure);
    }
    if (wish.stay) co_await ctx.wait_until([this] { return may_go; });
    co_return text;
  }
};
const Definition<Parent> kParent{"Parent", run(&Parent::run), signal("go", &Parent::go)};

struct Family {
  Stage& stage;
  explicit Family(Stage& given) : stage(given) {
    stage.runs(kChild).runs(kParent);
    stage.start_worker();
  }
  std::string outcome(Wish wish) {
    if (wish.id.empty()) wish.id = unique("child");
    return must(stage.start(kParent, wish).result<std::string>());
  }
  WorkflowHandle child(const std::string& id) {
    WorkflowHandle handle =
        stage.client().handle(id, must(stage.client().handle(id).describe()).run_id);
    return handle;
  }
};

TEST(Children, ReturnTheirResultOrTheirFailure) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    Family family{stage};
    EXPECT_EQ(family.outcome({.order = "hello"}), "hello");
    EXPECT_EQ(family.outcome({.order = "fail"}), "failed: Refused");
  });
}

TEST(Children, AreSignalled) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    Family family{stage};
    EXPECT_EQ(family.outcome({.order = "wait", .tell = "a word"}), "heard a word");
  });
}

TEST(Children, AreTriedAgainAsTheirPolicySays) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    Family family{stage};
    EXPECT_EQ(family.outcome({.order = "fail_once", .retry = true}), "fail_once");
  });
}

TEST(Children, TimeOut) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    Family family{stage};
    EXPECT_EQ(family.outcome({.order = "wait", .run_timeout_ms = 1000}), "timed out");
  });
}

TEST(Children, AreNotStartedUnderAnIdThatIsTaken) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    Family family{stage};
    const auto taken = stage.start(kChild, std::string{"wait"});
    EXPECT_EQ(family.outcome({.order = "hello", .id = taken.id()}), "already started");
    must(taken.signal("tell", std::string{"go"}));
    must(taken.result<std::string>());
  });
}

TEST(Children, EndAsCancelledOrAsTheyLikeWhenWaitedFor) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    Family family{stage};
    EXPECT_EQ(family.outcome({.order = "wait", .cancellation = 1}), "cancelled");
    EXPECT_EQ(family.outcome({.order = "ignore_cancel", .cancellation = 1}), "finished anyway");
  });
}

TEST(Children, AreGivenUpAtOnceByTryCancelAndWhenTheServerHasPassedItOn) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    Family family{stage};
    for (const int type : {2, 4}) {
      const Wish wish{
          .order = "ignore_cancel", .id = unique("child"), .cancellation = type, .stay = true};
      const auto parent = stage.start(kParent, wish);
      stage.wait_for_event(parent, enums::EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED);
      EXPECT_EQ(must(family.child(wish.id).result<std::string>()), "finished anyway");
      must(parent.signal("go"));
      EXPECT_EQ(must(parent.result<std::string>()), "cancelled");
    }
  });
}

TEST(Children, DoNotHearOfAnAbandonedCancellation) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    Family family{stage};
    const std::string id = unique("child");
    EXPECT_EQ(family.outcome({.order = "wait", .id = id, .cancellation = 3, .parent_close = 1}),
              "cancelled");
    const auto child = family.child(id);
    EXPECT_EQ(stage.count_events(child, enums::EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED), 0);
    must(child.signal("tell", std::string{"go"}));
    EXPECT_EQ(must(child.result<std::string>()), "heard go");
  });
}

TEST(Children, FollowTheParentClosePolicy) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    Family family{stage};
    const std::map<int, ErrorCode> ends{{0, ErrorCode::kWorkflowTerminated},
                                        {2, ErrorCode::kWorkflowCanceled}};
    for (const auto& [policy, end] : ends) {
      const std::string id = unique("child");
      EXPECT_EQ(family.outcome({.order = "wait", .id = id, .parent_close = policy, .leave = true}),
                "left");
      const auto result = family.child(id).result<std::string>();
      ASSERT_FALSE(result.has_value());
      EXPECT_EQ(result.error().code, end) << result.error().text();
    }
    const std::string id = unique("child");
    family.outcome({.order = "wait", .id = id, .parent_close = 1, .leave = true});
    must(family.child(id).signal("tell", std::string{"on my own"}));
    EXPECT_EQ(must(family.child(id).result<std::string>()), "heard on my own");
  });
}

// Many at once, by name only.
struct Crowd {
  Task<int> run(Context& ctx, int size) {
    std::vector<Future<std::string>> results;
    for (int i = 0; i < size; ++i)
      results.push_back(ctx.execute_child<std::string>("Child", {}, std::to_string(i)));
    int sum = 0;
    for (const auto& result : results) sum += std::stoi(co_await result);
    co_return sum;
  }
};
const Definition<Crowd> kCrowd{"Crowd", run(&Crowd::run)};

TEST(Children, RunSideBySide) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kChild).runs(kCrowd);
    stage.start_worker();
    EXPECT_EQ(must(stage.start(kCrowd, 10).result<int>()), 45);
  });
}

}  // namespace
}  // namespace tempora::behaviour
