// Flags in a history stand for rules of visible order. This runtime has none yet, so it knows none.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <temporal/api/sdk/v1/task_complete_metadata.pb.h>

#include <string>
#include <tempora/definition.hpp>

#include "engine/run.hpp"
#include "testing/history_builder.hpp"

namespace tempora {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using testing::HistoryBuilder;

struct Sleeps {
  Task<void> run(Context& ctx) {
    co_await ctx.sleep(1s);
    co_await ctx.sleep(1s);
  }
};
const Definition<Sleeps> kSleeps{"Sleeps", run(&Sleeps::run)};

// A run with one task done, which `metadata` tells of, and a second one in hand.
class Flags : public ::testing::Test {
 protected:
  Flags() {
    history.started("Sleeps").task_started().task_completed();
    metadata.set_sdk_name("tempora");
  }
  engine::TaskOutcome second_task() {
    HistoryBuilder whole = history;
    whole.timer_started("1").timer_fired(5, "1").task_started();
    auto task = whole.task(0, 3);
    *task.mutable_history()
         ->mutable_events(3)
         ->mutable_workflow_task_completed_event_attributes()
         ->mutable_sdk_metadata() = metadata;
    WorkflowRegistry registry;
    registry.add(kSleeps);
    engine::Run run{registry, {}};
    return run.process(task);
  }
  void expect_refused(const std::string& flag) {
    const auto outcome = second_task();
    EXPECT_EQ(outcome.kind, engine::TaskOutcome::Kind::kFailed);
    EXPECT_TRUE(outcome.evict);
    EXPECT_EQ(outcome.cause,
              testing::enums::WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_WORKER_UNHANDLED_FAILURE);
    EXPECT_THAT(outcome.failure.message(), HasSubstr("event 4 has the SDK flag " + flag));
    EXPECT_THAT(outcome.failure.message(), HasSubstr("update this worker"));
  }
  void expect_taken() {
    const auto outcome = second_task();
    EXPECT_EQ(outcome.kind, engine::TaskOutcome::Kind::kCompleted) << outcome.failure.message();
  }

  HistoryBuilder history;
  temporal::api::sdk::v1::WorkflowTaskCompletedMetadata metadata;
};

TEST_F(Flags, WithoutAnyTheTaskIsDone) { expect_taken(); }

TEST_F(Flags, OfANewerRuntimeFailTheTask) {
  metadata.add_lang_used_flags(3);
  expect_refused("3");
}

TEST_F(Flags, OfACoreFailTheTaskToo) {
  metadata.add_core_used_flags(2);
  expect_refused("2");
}

// The name stands in the first answer of a run only.
TEST_F(Flags, WithoutANameAreOurs) {
  metadata.clear_sdk_name();
  metadata.add_lang_used_flags(3);
  expect_refused("3");
}

TEST_F(Flags, OfAnotherSdkAreItsOwn) {
  metadata.set_sdk_name("temporal-go");
  metadata.add_lang_used_flags(3);
  expect_taken();
}

}  // namespace
}  // namespace tempora
