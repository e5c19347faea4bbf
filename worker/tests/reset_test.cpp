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
