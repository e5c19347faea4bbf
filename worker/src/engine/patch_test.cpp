#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <tempora/definition.hpp>

#include "testing/scenario.hpp"

namespace tempora {
namespace {

using namespace std::chrono_literals;
using testing::commands_of;
using testing::HistoryBuilder;
using testing::Scenario;

struct Unpatched {
  Task<std::string> run(Context& ctx) {
    co_await ctx.sleep(1s);
    co_return "old";
  }
};
const Definition<Unpatched> kUnpatched{"Work", run(&Unpatched::run)};

struct Patched {
  Task<std::string> run(Context& ctx) {
    const bool patched = ctx.patched("p1");
    if (patched) co_await ctx.sleep(5s);
    co_await ctx.sleep(1s);
    co_return ctx.patched("p1") ? "new" : "old";
  }
};
const Definition<Patched> kPatched{"Work", run(&Patched::run)};

struct Deprecated {
  Task<std::string> run(Context& ctx) {
    ctx.deprecate_patch("p1");
    co_await ctx.sleep(5s);
    co_await ctx.sleep(1s);
    co_return "new";
  }
};
const Definition<Deprecated> kDeprecated{"Work", run(&Deprecated::run)};

struct Gone {
  Task<std::string> run(Context& ctx) {
    co_await ctx.sleep(5s);
    co_await ctx.sleep(1s);
    co_return "new";
  }
};
const Definition<Gone> kGone{"Work", run(&Gone::run)};

template <class W>
std::expected<void, ReplayError> replay(const Definition<W>& definition,
                                        const HistoryBuilder& history) {
  WorkflowRegistry registry;
  registry.add(definition);
  return Replayer{registry}.replay(history.history());
}

TEST(Patches, ANewRunRecordsMarkerAndSearchAttribute) {
  Scenario scenario{kPatched};
  const auto first = scenario.task();
  EXPECT_EQ(commands_of(first), "RECORD_MARKER UPSERT_WORKFLOW_SEARCH_ATTRIBUTES START_TIMER(1)");
  EXPECT_EQ(first.commands(0)
                .record_marker_command_attributes()
                .details()
                .at("patch-data")
                .payloads(0)
                .data(),
            R"({"id":"p1","deprecated":false})");
  const auto& version = first.commands(1)
                            .upsert_workflow_search_attributes_command_attributes()
                            .search_attributes()
                            .indexed_fields()
                            .at("TemporalChangeVersion");
  EXPECT_EQ(version.data(), R"(["p1"])");
  EXPECT_EQ(version.metadata().at("type"), "KeywordList");
  scenario.fire_timer("1");
  scenario.task();
  scenario.fire_timer("2");
  EXPECT_EQ(commands_of(scenario.task()), "COMPLETE_WORKFLOW_EXECUTION");
}

TEST(Patches, AnOldRunStaysOldToItsEnd) {
  HistoryBuilder history;
  history.started("Work")
      .task_started()
      .task_completed()
      .timer_started("1")
      .timer_fired(5, "1")
      .task_started();
  WorkflowRegistry registry;
  registry.add(kPatched);
  engine::Run run{registry, {}};
  const auto outcome = run.process(history.full_task());
  ASSERT_EQ(outcome.kind, engine::TaskOutcome::Kind::kCompleted) << outcome.failure.message();
  EXPECT_EQ(outcome.completion.commands(0)
                .complete_workflow_execution_command_attributes()
                .result()
                .payloads(0)
                .data(),
            "\"old\"");
}

TEST(Patches, DeprecationReplaysPatchedRunsAndLaterTheCallMayGo) {
  HistoryBuilder patched;
  patched.started("Work")
      .task_started()
      .task_completed()
      .patch_marker("p1", false)
      .change_version_upserted({"p1"});
  patched.timer_started("1").timer_fired(7, "1").task_started().task_completed().timer_started("2");
  EXPECT_TRUE(replay(kPatched, patched).has_value());
  EXPECT_TRUE(replay(kDeprecated, patched).has_value());
  const auto gone = replay(kGone, patched);
  ASSERT_FALSE(gone.has_value());
  EXPECT_TRUE(gone.error().nondeterminism);
  EXPECT_FALSE(replay(kUnpatched, patched).has_value());

  HistoryBuilder deprecated;
  deprecated.started("Work")
      .task_started()
      .task_completed()
      .patch_marker("p1", true)
      .change_version_upserted({"p1"});
  deprecated.timer_started("1").timer_fired(7, "1").task_started().task_completed().timer_started(
      "2");
  EXPECT_TRUE(replay(kDeprecated, deprecated).has_value());
  EXPECT_TRUE(replay(kPatched, deprecated).has_value());
  EXPECT_TRUE(replay(kGone, deprecated).has_value());
}

}  // namespace
}  // namespace tempora
