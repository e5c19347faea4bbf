// What a run says that it holds: what it was given, what its workflow tells, what is under way.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <malloc.h>

#include <memory>
#include <stdexcept>
#include <tempora/definition.hpp>

#include "testing/scenario.hpp"

namespace tempora {
namespace {

using namespace std::chrono_literals;
using testing::commands_of;
using testing::HistoryBuilder;
using testing::Scenario;

constexpr std::size_t kLoad = 50'000;
// Far below a load, far above what a handler or a timer needs.
constexpr std::size_t kLittle = 5'000;

const ActivityType<std::string, std::string> kFetch{"fetch", {.start_to_close = 10s}};

std::string load() { return std::string(kLoad, 'x'); }

struct Store {
  std::vector<std::string> kept;
  std::size_t told = 0;
  Task<void> run(Context& ctx) { co_await ctx.sleep(1h); }
  void keep(Context&, std::string text) { kept.push_back(std::move(text)); }
  void count(Context&, std::string text) { told += text.size() / 10; }
  std::size_t says() const { return told; }
  std::size_t fails() const {
    if (kept.empty()) return 0;
    throw std::runtime_error{"cannot tell"};
  }
};
const Definition<Store> kStore{"Store", run(&Store::run), signal("keep", &Store::keep),
                               update("keep_too", &Store::keep)};
const Definition<Store> kTelling{"Store", run(&Store::run), signal("count", &Store::count),
                                 held_bytes(&Store::says)};
const Definition<Store> kFailing{"Store", run(&Store::run), signal("keep", &Store::keep),
                                 held_bytes(&Store::fails)};

// A sanitizer's allocator does not tell.
constexpr bool kAllocatorTells =
#if defined(__has_feature)
    !__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer);
#else
    true;
#endif

std::size_t allocated() { return mallinfo2().uordblks + mallinfo2().hblkhd; }

// Of many runs that did one and the same task.
void expect_about_what_was_allocated(const WorkflowRegistry& registry,
                                     const HistoryBuilder& history) {
  if (!kAllocatorTells) GTEST_SKIP() << "the allocator does not tell";
  const auto task = history.full_task();
  const auto make = [&] {
    auto run = std::make_unique<engine::Run>(registry, engine::RunOptions{});
    EXPECT_EQ(run->process(task).kind, engine::TaskOutcome::Kind::kCompleted);
    return run;
  };
  make();  // and what is made once for all
  constexpr std::size_t kRuns = 500;
  std::vector<std::unique_ptr<engine::Run>> runs;
  runs.reserve(kRuns);
  const std::size_t before = allocated();
  while (runs.size() < kRuns) runs.push_back(make());
  const auto each = static_cast<double>(allocated() - before) / kRuns;
  const auto counted = static_cast<double>(runs.front()->memory_bytes());
  EXPECT_GT(counted, 0.8 * each);
  EXPECT_LT(counted, 1.6 * each) << "the worker's own entry is in it, too";
}

TEST(Memory, OfAnIdleRunIsAboutWhatWasAllocated) {
  WorkflowRegistry registry;
  registry.add(kStore);
  HistoryBuilder history;
  history.started("Store").task_started();
  expect_about_what_was_allocated(registry, history);
}

TEST(Memory, OfARunThatKeepsALotIsAboutWhatWasAllocated) {
  WorkflowRegistry registry;
  registry.add(kStore);
  HistoryBuilder history;
  history.started("Store").signaled("keep", std::string(3'000, 'a'));
  history.signaled("keep", load()).task_started();
  expect_about_what_was_allocated(registry, history);
}

TEST(Memory, GrowsByWhatSignalsAndUpdatesBring) {
  Scenario scenario{kStore};
  scenario.task();
  const std::size_t before = scenario.cached().memory_bytes();
  scenario.signal("keep", load());
  scenario.task();
  EXPECT_NEAR(scenario.cached().memory_bytes(), before + kLoad, kLittle);
  scenario.update("u1", "keep_too", load());
  scenario.task();
  EXPECT_NEAR(scenario.cached().memory_bytes(), before + 2 * kLoad, kLittle);
}

TEST(Memory, CountsSignalsThatWaitForAHandlerOnce) {
  struct Later {
    Task<void> run(Context& ctx) {
      co_await ctx.sleep(1s);
      ctx.on_signal("late", [](Payloads) -> Task<void> { co_return; });
      co_await ctx.sleep(1h);
    }
  };
  const Definition<Later> later{"Later", run(&Later::run)};
  Scenario scenario{later};
  scenario.task();
  const std::size_t before = scenario.cached().memory_bytes();
  scenario.signal("late", load());
  scenario.task();
  EXPECT_NEAR(scenario.cached().memory_bytes(), before + kLoad, kLittle);
  scenario.fire_timer("1");
  scenario.task();
  EXPECT_NEAR(scenario.cached().memory_bytes(), before + kLoad, kLittle);
}

TEST(Memory, IsWhatTheWorkflowTellsIfItDoes) {
  Scenario scenario{kTelling};
  scenario.task();
  const std::size_t before = scenario.cached().memory_bytes();
  scenario.signal("count", load());
  scenario.task();
  EXPECT_NEAR(scenario.cached().memory_bytes(), before + kLoad / 10, 1'000);
}

// Else it would count as nothing until its next task.
TEST(Memory, IsToldToARunThatWasRebuiltForAQuery) {
  Scenario scenario{kTelling};
  scenario.task();
  scenario.signal("count", load());
  scenario.task();
  auto rebuilt = scenario.fresh();
  auto query = scenario.history().full_task();
  query.set_started_event_id(0);
  query.mutable_query()->set_query_type("__stack_trace");
  ASSERT_EQ(rebuilt->process(query).kind, engine::TaskOutcome::Kind::kQueryAnswered);
  EXPECT_NEAR(rebuilt->memory_bytes(), scenario.cached().memory_bytes(), 1'000);
}

TEST(Memory, ThatAWorkflowCannotTellFailsTheTask) {
  Scenario scenario{kFailing};
  scenario.task();
  scenario.signal("keep", load());
  scenario.task();
  EXPECT_EQ(scenario.outcome().kind, engine::TaskOutcome::Kind::kFailed);
  EXPECT_THAT(scenario.outcome().failure.message(), ::testing::HasSubstr("cannot tell"));
}

struct Wide {
  Task<void> run(Context& ctx, int wanted) {
    {
      const std::string name = "x";
      std::vector<Future<std::string>> all;
      for (int i = 0; i < wanted; ++i) all.push_back(ctx.start(kFetch, name));
      for (const auto& each : all) co_await each;
    }
    co_await ctx.sleep(1h);
  }
};
const Definition<Wide> kWide{"Wide", run(&Wide::run)};

TEST(Memory, OfOperationsIsFreeWhenTheyHaveEnded) {
  constexpr int kWanted = 100;
  Scenario none{kWide, 0};
  none.task();
  Scenario scenario{kWide, kWanted};
  scenario.task();
  const std::size_t under_way = scenario.cached().memory_bytes();
  EXPECT_GT(under_way, none.cached().memory_bytes() + kWanted * 200U);
  for (int i = 1; i <= kWanted; ++i) scenario.complete_activity(std::to_string(i), std::string{});
  EXPECT_EQ(commands_of(scenario.task()), "START_TIMER(1)");
  // Of the lists only their room is left.
  EXPECT_LT(scenario.cached().memory_bytes(), none.cached().memory_bytes() + kWanted * 120U);
}

}  // namespace
}  // namespace tempora
