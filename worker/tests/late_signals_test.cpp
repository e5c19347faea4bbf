// Signals whose handlers are made while the workflow runs, and workflows of any type.
#include <temporal/api/enums/v1/event_type.pb.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <peers.hpp>

#include "stage.hpp"

namespace tempora::behaviour {
namespace {

struct Late {
  std::string log;
  Task<std::string> run(Context& ctx) {
    co_await ctx.sleep(10ms);
    ctx.on_signal("add", [this](Payloads input) -> Task<void> {
      log += decode_argument<std::string>(input);
      co_return;
    });
    co_await ctx.wait_until([this] { return log.size() >= 5; });
    co_return log;
  }
};
const Definition<Late> kLate{"Late", run(&Late::run)};

TEST(LateSignals, ComeInOrderWhetherTheyCameBeforeOrAfterTheirHandler) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kLate);
    stage.start_worker();
    const auto handle = stage.start(kLate);
    for (const char* letter : {"a", "b", "c", "d", "e"})
      must(handle.signal("add", std::string{letter}));
    EXPECT_EQ(must(handle.result<std::string>()), "abcde");
  });
}

struct Anything {
  Task<std::string> run(Context& ctx, Payloads input) {
    co_await ctx.sleep(10ms);
    co_return ctx.info().workflow_type + " " + decode_argument<std::string>(input, 1);
  }
};
const Definition<Anything> kAnything{"Anything", run(&Anything::run)};

TEST(Fallback, RunsWhatNobodyHasRegistered) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    Worker worker{stage.client(), stage.options};
    worker.add_fallback(kAnything);
    worker.start();
    const auto handle = must(
        stage.client().start("NeverHeardOf", stage.start_options(), 1, std::string{"argument"}));
    EXPECT_EQ(must(handle.result<std::string>()), "NeverHeardOf argument");
  });
}

// Each stage throws its own dice: a throw is worth a hundred more than the one before.
std::array<std::atomic<int>, 3> s_throws;

int throw_dice(std::size_t which) { return 100 * ++s_throws.at(which); }

struct Dice {
  int first = 0;
  bool told = false;
  Task<std::string> run(Context& ctx, std::size_t which) {
    first = ctx.side_effect([which] { return throw_dice(which); });
    co_await ctx.sleep(10ms);
    co_await ctx.wait_until([this] { return told; });
    const int second = ctx.side_effect([which] { return throw_dice(which); });
    co_await ctx.sleep(10ms);
    co_return std::to_string(first) + " " + std::to_string(second);
  }
  void go(Context&) { told = true; }
  int thrown() const { return first; }
};
const Definition<Dice> kDice{"Dice", run(&Dice::run), signal("go", &Dice::go),
                             query("thrown", &Dice::thrown)};

// The worker is replaced in between, so that every cache size replays.
TEST(SideEffects, KeepTheirValueOverReplaysAndHappenOnce) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    const std::size_t which = std::min<std::size_t>(stage.max_cached(), 2);
    s_throws.at(which) = 0;
    stage.runs(kDice);
    stage.start_worker();
    const auto handle = stage.start(kDice, which);
    stage.wait_for_event(handle, temporal::api::enums::v1::EVENT_TYPE_WORKFLOW_TASK_COMPLETED, 2);
    EXPECT_EQ(must(handle.query<int>("thrown")), 100);
    stage.worker().shutdown();
    stage.start_worker();
    EXPECT_EQ(must(handle.query<int>("thrown")), 100);
    must(handle.signal("go"));
    EXPECT_EQ(must(handle.result<std::string>()), "100 200");
    EXPECT_EQ(s_throws.at(which), 2);
  });
}

}  // namespace
}  // namespace tempora::behaviour
