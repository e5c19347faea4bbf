// Signals that come before somebody handles them; workflows of any type; semaphores.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <tempora/definition.hpp>

#include "testing/scenario.hpp"

namespace tempora {
namespace {

using namespace std::chrono_literals;
using testing::commands_of;
using testing::result_of;
using testing::Scenario;

struct Late {
  std::string log;
  Task<std::string> run(Context& ctx, bool any) {
    co_await ctx.sleep(1s);
    if (any) {
      ctx.on_any_signal([this, &ctx](std::string name, Payloads input) -> Task<void> {
        co_await ctx.sleep(1s);
        log += name + decode_argument<std::string>(input) + " ";
      });
    } else {
      ctx.on_signal("a", [this](Payloads input) -> Task<void> {
        log += "a" + decode_argument<std::string>(input) + " ";
        co_return;
      });
    }
    co_await ctx.sleep(60s);
    co_return log;
  }
};
const Definition<Late> kLate{"Late", run(&Late::run)};

TEST(LateSignals, WaitForTheirHandlerInOrder) {
  Scenario scenario{kLate, false};
  scenario.signal("a", std::string{"1"}).signal("b", std::string{"2"});
  scenario.task();
  scenario.signal("a", std::string{"3"});
  EXPECT_EQ(commands_of(scenario.task()), "");
  scenario.fire_timer("1");
  EXPECT_EQ(commands_of(scenario.task()), "START_TIMER(2)");
  scenario.signal("a", std::string{"4"}).signal("c", std::string{"5"});
  scenario.task();
  scenario.fire_timer("2");
  EXPECT_EQ(result_of(scenario.task()), "a1 a3 a4 ");
}

TEST(LateSignals, AllGoToTheHandlerOfAny) {
  Scenario scenario{kLate, true};
  scenario.signal("a", std::string{"1"}).signal("b", std::string{"2"});
  scenario.task();
  scenario.fire_timer("1");
  // The main coroutine goes on first: it was running when it made the handler.
  EXPECT_EQ(commands_of(scenario.task()), "START_TIMER(2) START_TIMER(3) START_TIMER(4)");
  scenario.fire_timer("4").fire_timer("3");
  scenario.task();
  scenario.signal("c", std::string{"3"});
  EXPECT_EQ(commands_of(scenario.task()), "START_TIMER(5)");
  scenario.fire_timer("5");
  scenario.task();
  scenario.fire_timer("2");
  EXPECT_EQ(result_of(scenario.task()), "b2 a1 c3 ");
}

bool s_closure_outlived_frame = true;

// Of the first handler only its running frame is left.
struct Replaced {
  struct Guard {
    std::weak_ptr<int> held;
    ~Guard() { s_closure_outlived_frame = s_closure_outlived_frame && !held.expired(); }
  };
  Task<void> run(Context& ctx) {
    ctx.on_signal("a", [held = std::make_shared<int>(1), &ctx](Payloads) -> Task<void> {
      const Guard guard{held};
      co_await ctx.sleep(1h);
    });
    ctx.on_signal("a", [](Payloads) -> Task<void> { co_return; });
    co_await ctx.sleep(1h);
  }
};
const Definition<Replaced> kReplaced{"Replaced", run(&Replaced::run)};

TEST(LateSignals, AFrameMayUseItsHandlersCapturesToItsVeryEnd) {
  {
    Scenario scenario{kReplaced};
    scenario.signal("a", 1);
    EXPECT_EQ(commands_of(scenario.task()), "START_TIMER(1) START_TIMER(2)");
  }
  EXPECT_TRUE(s_closure_outlived_frame);
}

struct Anything {
  Task<std::string> run(Context& ctx, Payloads input) {
    co_return ctx.info().workflow_type + " with " + std::to_string(input.payloads_size());
  }
};
const Definition<Anything> kAnything{"Anything", run(&Anything::run)};

TEST(Fallback, TakesEveryTypeThatHasNoDefinition) {
  WorkflowRegistry registry;
  registry.add(kLate);
  registry.add_fallback(kAnything);
  testing::HistoryBuilder history;
  history.started("Unheard", 1, std::string{"two"}, 3).task_started();
  engine::Run run{registry, {}};
  const auto outcome = run.process(history.full_task());
  ASSERT_EQ(outcome.kind, engine::TaskOutcome::Kind::kCompleted) << outcome.failure.message();
  EXPECT_EQ(result_of(outcome.completion), "Unheard with 3");
}

struct Crowd {
  Semaphore two{2};
  std::string log;
  Task<void> one(Context& ctx, std::string name) {
    const SemaphorePermit permit = co_await two.acquire(ctx);
    log += name;
    co_await ctx.sleep(1s);
  }
  Task<std::string> run(Context& ctx) {
    const auto a = ctx.spawn(one(ctx, "a"));
    const auto b = ctx.spawn(one(ctx, "b"));
    const auto c = ctx.spawn(one(ctx, "c"));
    const auto d = ctx.spawn(one(ctx, "d"));
    c.cancel();
    co_await join(ctx, {a, b, c, d});
    co_return log + std::to_string(two.free());
  }
};
const Definition<Crowd> kCrowd{"Crowd", run(&Crowd::run)};

TEST(Semaphores, LetSoManyInAndPassOverWhoWasCancelled) {
  Scenario scenario{kCrowd};
  EXPECT_EQ(commands_of(scenario.task()), "START_TIMER(1) START_TIMER(2)");
  scenario.fire_timer("2");
  EXPECT_EQ(commands_of(scenario.task()), "START_TIMER(3)");
  scenario.fire_timer("1").fire_timer("3");
  EXPECT_EQ(result_of(scenario.task()), "abd2");
}

}  // namespace
}  // namespace tempora
