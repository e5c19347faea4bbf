// Activities that are answered by somebody else than their function.
#include <tempora/async_activity.hpp>

#include <future>
#include <peers.hpp>

#include "stage.hpp"

namespace tempora::behaviour {
namespace {

const ActivityType<std::string, std::string> kLater{
    "later",
    {.start_to_close = 60s,
     .heartbeat = 30s,
     .retry = RetryPolicy{.initial_interval = 50ms, .maximum_attempts = 2},
     .cancellation = CancellationType::kWaitCancellationCompleted}};

struct Asks {
  bool give_up = false;

  Task<std::string> run(Context& ctx, std::string question) {
    CancellationScope scope = ctx.new_scope();
    Handle<void> watcher = ctx.spawn(cancel_when_told(ctx, scope));
    try {
      co_return co_await scope.run([&ctx, &question] { return ask(ctx, question); });
    } catch (const ActivityError& failure) {
      if (dynamic_cast<const CanceledError*>(failure.cause()) != nullptr) co_return "cancelled";
      const ApplicationError* error = find_application_error(failure);
      co_return error == nullptr ? std::string{failure.what()} : error->type();
    }
  }
  Task<void> stop(Context&) {
    give_up = true;
    co_return;
  }

 private:
  static Task<std::string> ask(Context& ctx, std::string question) {
    co_return co_await ctx.execute(kLater, question);
  }
  Task<void> cancel_when_told(Context& ctx, CancellationScope scope) {
    co_await ctx.wait_until([this] { return give_up; });
    scope.cancel();
  }
};

const Definition<Asks> kAsks{"Asks", run(&Asks::run), signal("stop", &Asks::stop)};

// One activity that was left open, and what its attempts saw.
struct Left {
  std::promise<ActivityInfo> first, second;

  std::string operator()(ActivityContext& ctx) {
    (ctx.info().attempt == 1 ? first : second).set_value(ctx.info());
    ctx.complete_later();
  }
};

struct Scene {
  explicit Scene(Stage& stage) : stage{stage} {
    stage.runs(kAsks).does(kLater,
                           [this](ActivityContext& ctx, const std::string&) { return left(ctx); });
    stage.start_worker();
    workflow = stage.start(kAsks, std::string{"how much?"});
    info = left.first.get_future().get();
    by_token = stage.client().async_activity(info.task_token);
    by_id = stage.client().async_activity(info.workflow_id, "", info.activity_id);
  }

  Stage& stage;
  Left left;
  WorkflowHandle workflow;
  ActivityInfo info;
  AsyncActivity by_token, by_id;
};

TEST(AsyncCompletion, CompletesByTokenOnce) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    Scene scene{stage};
    must(scene.by_token.complete(std::string{"42"}));
    EXPECT_EQ(must(scene.workflow.result<std::string>()), "42");
    const auto again = scene.by_token.complete(std::string{"43"});
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().code, ErrorCode::kNotFound) << again.error().text();
  });
}

TEST(AsyncCompletion, CompletesById) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    Scene scene{stage};
    must(scene.by_id.complete(std::string{"by id"}));
    EXPECT_EQ(must(scene.workflow.result<std::string>()), "by id");
  });
}

TEST(AsyncCompletion, AFailureIsRetriedUnlessItIsFinal) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    Scene scene{stage};
    must(scene.by_token.fail(ApplicationError{"again", "Again"}));
    const ActivityInfo second = scene.left.second.get_future().get();
    EXPECT_EQ(second.attempt, 2);
    must(scene.by_id.fail(ApplicationError{"never", "Final", true}));
    EXPECT_EQ(must(scene.workflow.result<std::string>()), "Final");
  });
}

TEST(AsyncCompletion, HeartbeatsCarryDetailsAndTellOfTheRequestToCancel) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    Scene scene{stage};
    EXPECT_FALSE(must(scene.by_token.heartbeat(7)).should_stop());
    EXPECT_FALSE(must(scene.by_id.heartbeat(8)).should_stop());
    const auto pending = must(scene.workflow.describe()).pending_activities;
    ASSERT_EQ(pending.size(), 1U);
    EXPECT_EQ(decode_argument<int>(pending.front().heartbeat_details), 8);

    must(scene.workflow.signal("stop"));
    stage.wait_for_event(scene.workflow, 15 /* ActivityTaskCancelRequested */);
    EXPECT_TRUE(must(scene.by_id.heartbeat(9)).cancel_requested);
    must(scene.by_token.cancel(std::string{"as you wish"}));
    EXPECT_EQ(must(scene.workflow.result<std::string>()), "cancelled");
  });
}

const ActivityType<Void, int> kBeatsAndLeaves{
    "beats and leaves",
    {.start_to_close = 60s,
     .heartbeat = 5s,
     .retry = RetryPolicy{.initial_interval = 50ms, .maximum_attempts = 2}}};

struct Resumes {
  Task<int> run(Context& ctx) { co_return co_await ctx.execute(kBeatsAndLeaves); }
};
const Definition<Resumes> kResumes{"Resumes", run(&Resumes::run)};

// Nobody answers the first attempt. The second beat is held back when it ends.
TEST(AsyncCompletion, TheNextAttemptReadsTheNewestHeartbeat) {
  NEEDS_SERVER();
  with_default_cache([](Stage& stage) {
    stage.runs(kResumes).does(kBeatsAndLeaves, [](ActivityContext& ctx, const Void&) -> int {
      if (const auto seen = ctx.heartbeat_details<int>()) return *seen;
      ctx.heartbeat(1);
      ctx.heartbeat(2);
      ctx.complete_later();
    });
    stage.start_worker();
    EXPECT_EQ(must(stage.start(kResumes).result<int>()), 2);
  });
}

TEST(AsyncCompletion, CancellingWithoutARequestIsRefused) {
  NEEDS_SERVER();
  with_default_cache([](Stage& stage) {
    Scene scene{stage};
    const auto refused = scene.by_token.cancel();
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument) << refused.error().text();
    must(scene.by_token.complete(std::string{"yes"}));
    EXPECT_EQ(must(scene.workflow.result<std::string>()), "yes");
  });
}

}  // namespace
}  // namespace tempora::behaviour
