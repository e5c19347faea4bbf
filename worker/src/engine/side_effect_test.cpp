#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <tempora/definition.hpp>

#include "testing/scenario.hpp"

namespace tempora {
namespace {

using namespace std::chrono_literals;
using testing::commands_of;
using testing::Scenario;

int calls = 0;

struct Dice {
  Task<int> run(Context& ctx) {
    const int first = ctx.side_effect([] { return ++calls * 10; });
    co_await ctx.sleep(1s);
    const int second = ctx.side_effect([] { return ++calls * 10; });
    co_return first + second;
  }
};
const Definition<Dice> kDice{"Dice", run(&Dice::run)};

int result_of(const Scenario::Completion& completion) {
  const auto& last = completion.commands(completion.commands_size() - 1);
  return PayloadCodec<int>::decode(
      last.complete_workflow_execution_command_attributes().result().payloads(0));
}

// By hand, since a value that differs each time is the point: the scenario would run it twice.
TEST(SideEffects, AreRunOnceAndReplayedFromTheirMarker) {
  calls = 0;
  WorkflowRegistry registry;
  registry.add(kDice);
  testing::HistoryBuilder history;
  history.started("Dice").task_started();
  engine::Run live{registry, {}};
  const auto first = live.process(history.full_task());
  ASSERT_EQ(first.kind, engine::TaskOutcome::Kind::kCompleted) << first.failure.message();
  EXPECT_EQ(commands_of(first.completion), "RECORD_MARKER START_TIMER(1)");
  EXPECT_EQ(calls, 1);

  history.task_completed();
  auto& marker = *history.add(testing::enums::EVENT_TYPE_MARKER_RECORDED)
                      .mutable_marker_recorded_event_attributes();
  const auto& sent = first.completion.commands(0).record_marker_command_attributes();
  marker.set_marker_name(sent.marker_name());
  *marker.mutable_details() = sent.details();
  history.timer_started("1").timer_fired(6, "1").task_started();
  engine::Run rebuilt{registry, {}};
  const auto second = rebuilt.process(history.task(0, 3));
  ASSERT_EQ(second.kind, engine::TaskOutcome::Kind::kCompleted) << second.failure.message();
  EXPECT_EQ(calls, 2) << "only the second one is new";
  EXPECT_EQ(result_of(second.completion), 10 + 20);
}

TEST(SideEffects, WithoutAMarkerAreNondeterminism) {
  testing::HistoryBuilder history;
  history.started("Dice").task_started().task_completed().timer_started("1");
  WorkflowRegistry registry;
  registry.add(kDice);
  const auto replayed = Replayer{registry}.replay(history.history());
  ASSERT_FALSE(replayed.has_value());
  EXPECT_TRUE(replayed.error().nondeterminism);
  EXPECT_THAT(replayed.error().message, ::testing::HasSubstr("side effect 1"));
}

struct Meddles {
  Task<void> run(Context& ctx) {
    ctx.side_effect([&ctx] {
      ctx.upsert_memo("a", 1);
      return 1;
    });
    co_return;
  }
};
const Definition<Meddles> kMeddles{"Meddles", run(&Meddles::run)};

TEST(SideEffects, ThatCommandTheWorkflowFailTheTask) {
  Scenario scenario{kMeddles};
  scenario.task();
  EXPECT_EQ(scenario.outcome().kind, engine::TaskOutcome::Kind::kFailed);
  EXPECT_THAT(scenario.outcome().failure.message(), ::testing::HasSubstr("must change nothing"));
}

}  // namespace
}  // namespace tempora
