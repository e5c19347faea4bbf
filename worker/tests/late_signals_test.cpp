// Signals whose handlers are made while the workflow runs, and workflows of any type.
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
  with_default_cache([](Stage& stage) {
    Worker worker{stage.client(), stage.options};
    worker.add_fallback(kAnything);
    worker.start();
    const auto handle = must(
        stage.client().start("NeverHeardOf", stage.start_options(), 1, std::string{"argument"}));
    EXPECT_EQ(must(handle.result<std::string>()), "NeverHeardOf argument");
  });
}

struct Dice {
  Task<std::string> run(Context& ctx) {
    static std::atomic<int> calls{0};
    const int first = ctx.side_effect([] { return ++calls; });
    co_await ctx.sleep(10ms);
    const int second = ctx.side_effect([] { return ++calls; });
    co_return first < second ? "fresh" : "stale";
  }
};
const Definition<Dice> kDice{"Dice", run(&Dice::run)};

TEST(SideEffects, KeepTheirValueOverReplays) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kDice);
    stage.start_worker();
    EXPECT_EQ(must(stage.start(kDice).result<std::string>()), "fresh");
  });
}

}  // namespace
}  // namespace tempora::behaviour
