// A run is begun anew from a point of its history.
#include <temporal/api/enums/v1/event_type.pb.h>
#include <temporal/api/history/v1/message.pb.h>

#include <atomic>
#include <peers.hpp>

#include "stage.hpp"

namespace tempora::behaviour {
namespace {

namespace enums = temporal::api::enums::v1;

const ActivityType<Void, int> kCounts{"counts", {.start_to_close = 10s}};

// What the activity returned, and the signals until "end".
struct Collects {
  std::vector<std::string> seen;

  Task<std::string> run(Context& ctx) {
    const int number = co_await ctx.execute(kCounts);
    co_await ctx.wait_until([this] { return !seen.empty() && seen.back() == "end"; });
    std::string all = std::to_string(number);
    for (const std::string& one : seen) all += " " + one;
    co_return all;
  }
  Task<void> tell(Context&, std::string what) {
    seen.push_back(std::move(what));
    co_return;
  }
};

const Definition<Collects> kCollects{"Collects", run(&Collects::run),
                                     signal("tell", &Collects::tell)};

struct Scene {
  explicit Scene(Stage& stage) {
    stage.runs(kCollects).does(kCounts, [this](ActivityContext&, const Void&) { return ++calls; });
    stage.start_worker();
    handle = stage.start(kCollects);
    stage.wait_for_event(handle, enums::EVENT_TYPE_WORKFLOW_TASK_COMPLETED, 2);
    must(handle.signal("tell", std::string{"a"}));
    must(handle.signal("tell", std::string{"end"}));
    EXPECT_EQ(must(handle.result<std::string>()), "1 a end");
  }
  std::atomic<int> calls = 0;
  WorkflowHandle handle;
};

TEST(Reset, FromTheFirstTaskEverythingIsDoneAgainAndSignalsAreKept) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    Scene scene{stage};
    const auto again =
        must(scene.handle.reset({.point = ResetPoint::kFirstTask, .reason = "once more"}));
    stage.remember(again);
    EXPECT_NE(again.started_run_id(), scene.handle.started_run_id());
    EXPECT_EQ(must(again.result<std::string>()), "2 a end");
  });
}

TEST(Reset, FromALaterTaskWithoutSignals) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    Scene scene{stage};
    std::int64_t second_task = 0;
    int tasks = 0;
    must(scene.handle.for_each_event([&](const auto& event) {
      if (event.event_type() == enums::EVENT_TYPE_WORKFLOW_TASK_COMPLETED) {
        second_task = event.event_id();
        ++tasks;
      }
      return tasks < 2;
    }));
    const auto again = must(
        scene.handle.reset({.event_id = second_task, .reason = "later", .keep_signals = false}));
    stage.remember(again);
    must(again.signal("tell", std::string{"end"}));
    EXPECT_EQ(must(again.result<std::string>()), "1 end") << "the activity is not done again";
  });
}

TEST(Reset, FromTheLastTaskOnlyThatIsDoneAgain) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    Scene scene{stage};
    const auto again = must(scene.handle.reset({.reason = "once more"}));
    stage.remember(again);
    EXPECT_NE(again.started_run_id(), scene.handle.started_run_id());
    EXPECT_EQ(must(again.result<std::string>()), "1 a end");
    EXPECT_EQ(scene.calls, 1);
  });
}

struct Sums {
  int sum = 0;
  bool done = false;

  Task<int> run(Context& ctx) {
    co_await ctx.wait_until([this] { return done; });
    co_return sum;
  }
  int add(Context&, int by) { return sum += by; }
  void finish(Context&) { done = true; }
};

const Definition<Sums> kSums{"Sums", run(&Sums::run), update("add", &Sums::add),
                             signal("finish", &Sums::finish)};

TEST(Reset, UpdatesAreKeptUnlessToldOtherwise) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kSums);
    stage.start_worker();
    for (const bool keep : {true, false}) {
      const auto handle = stage.start(kSums);
      stage.wait_for_event(handle, enums::EVENT_TYPE_WORKFLOW_TASK_COMPLETED);
      EXPECT_EQ(must(handle.update<int>("add", {}, 5)), 5);
      const auto again = must(handle.reset(
          {.point = ResetPoint::kFirstTask, .reason = "once more", .keep_updates = keep}));
      stage.remember(again);
      // The latest run, which has an update of its own only if it was kept.
      stage.wait_for_event(again, keep ? enums::EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED
                                       : enums::EVENT_TYPE_WORKFLOW_TASK_COMPLETED);
      must(again.signal("finish"));
      EXPECT_EQ(must(again.result<int>()), keep ? 5 : 0);
    }
  });
}

TEST(Reset, OfARunWithoutACompletedTaskIsRefused) {
  NEEDS_SERVER();
  with_default_cache([](Stage& stage) {
    const auto handle = must(stage.client().start("Nobody", stage.start_options()));
    const auto refused = handle.reset({});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument) << refused.error().text();
    must(handle.terminate("test is over"));
  });
}

}  // namespace
}  // namespace tempora::behaviour
