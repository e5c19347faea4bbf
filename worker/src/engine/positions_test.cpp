// Errors and stack traces name the place in the workflow's code.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <tempora/definition.hpp>
#include <tempora/replayer.hpp>
#include <tempora/saga.hpp>

#include "testing/history_builder.hpp"
#include "testing/scenario.hpp"

namespace tempora {
namespace {

using namespace std::chrono_literals;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using testing::HistoryBuilder;
using testing::Scenario;

std::string place(int line) { return fmt::format("positions_test.cpp:{}", line); }

// Of `definition`, whose code does something else than to start a timer first.
template <class W>
ReplayError error_of(const Definition<W>& definition) {
  HistoryBuilder history;
  history.started(definition.name()).task_started().task_completed();
  history.timer_started("1").timer_fired(5, "1").task_started();
  WorkflowRegistry registry;
  registry.add(definition);
  const auto replayed = Replayer{registry}.replay(history.history());
  EXPECT_FALSE(replayed.has_value());
  return replayed.has_value() ? ReplayError{} : replayed.error();
}

struct Leaf {
  Task<int> run(Context&, int given) { co_return given; }
};
const Definition<Leaf> kLeaf{"Leaf", run(&Leaf::run)};

struct Parent {
  Task<int> run(Context& ctx) {
    const ChildWorkflowOptions options{.id = "leaf"};
    line = __LINE__ + 1;
    co_return co_await ctx.execute_child(kLeaf, options, 1);
  }
  static inline int line = 0;
};
const Definition<Parent> kParent{"Parent", run(&Parent::run)};

TEST(Positions, OfAChildThatIsStartedByItsDefinition) {
  const ReplayError error = error_of(kParent);
  EXPECT_THAT(error.command, HasSubstr("StartChildWorkflowExecution"));
  EXPECT_THAT(error.position, EndsWith(place(Parent::line)));
}

const ActivityType<int, Void> kUndo{"undo", {.start_to_close = 10s}};

struct Undoes {
  Task<void> run(Context& ctx) {
    Saga saga{ctx};
    line = __LINE__ + 1;
    saga.on_failure(kUndo, 1);
    co_await saga.unwind();
  }
  static inline int line = 0;
};
const Definition<Undoes> kUndoes{"Undoes", run(&Undoes::run)};

TEST(Positions, OfAnUndoIsWhereItWasRegistered) {
  const ReplayError error = error_of(kUndoes);
  EXPECT_THAT(error.command, HasSubstr("ScheduleActivityTask"));
  EXPECT_THAT(error.position, EndsWith(place(Undoes::line)));
}

struct Updated {
  Task<void> run(Context& ctx) {
    waits = __LINE__ + 1;
    co_await ctx.cancelled();
  }
  int set(Context&, int given) { return given; }
  static inline int waits = 0;
};
constexpr int kSetLine = __LINE__ + 1;
const Definition<Updated> kUpdated{"Updated", run(&Updated::run), update("set", &Updated::set)};

TEST(Positions, OfAnUpdateAreItsEntryInTheDefinition) {
  Scenario scenario{kUpdated};
  scenario.task();
  scenario.update("u1", "set", 5);
  scenario.task();
  auto history = scenario.history().history();
  ASSERT_EQ(history.events().rbegin()->event_type(),
            testing::enums::EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED);
  auto& last = *history.mutable_events()->rbegin();
  last.set_event_type(testing::enums::EVENT_TYPE_TIMER_STARTED);
  last.mutable_timer_started_event_attributes()->set_timer_id("1");
  const auto replayed = Replayer{scenario.registry()}.replay(history);
  ASSERT_FALSE(replayed.has_value());
  EXPECT_THAT(replayed.error().command, HasSubstr("CompleteUpdate"));
  EXPECT_THAT(replayed.error().position, EndsWith(place(kSetLine)));
}

TEST(Positions, OfAWaitForCancellationIsInTheStackTrace) {
  Scenario scenario{kUpdated};
  scenario.task();
  const auto trace = scenario.legacy_query("__stack_trace").query_result().payloads(0).data();
  EXPECT_THAT(trace, HasSubstr("waits for cancellation ("));
  EXPECT_THAT(trace, HasSubstr(place(Updated::waits)));
}

}  // namespace
}  // namespace tempora
