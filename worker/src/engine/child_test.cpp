// Children, and signals and requests to other workflows: each scenario is done by a cached run, by
// a fresh one, and by the replayer.
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

// What a future that failed with `error` is, in one word.
std::string kind_of(const Failure& failure) {
  const auto* child = dynamic_cast<const ChildWorkflowError*>(&failure);
  if (child == nullptr) return "not a child's failure";
  if (child->already_started()) return "already started";
  return is_cancellation(failure) ? "cancelled" : "failed";
}

struct Echo {
  Task<std::string> run(Context&, std::string text) { co_return text; }
};
const Definition<Echo> kEcho{"Echo", run(&Echo::run)};

struct Parent {
  Task<std::string> run(Context& ctx) {
    ChildWorkflowOptions options;
    options.id = "child";
    options.parent_close = ParentClosePolicy::kAbandon;
    options.retry = RetryPolicy{.maximum_attempts = 3};
    options.run_timeout = 60s;
    const auto child = ctx.start_child(kEcho, options, std::string{"hello"});
    std::string text;
    try {
      const std::string run_id = co_await child.started();
      text = run_id + ": ";
      text += co_await child.result();
    } catch (const Failure& failure) {
      text += kind_of(failure);
    }
    co_return text;
  }
};
const Definition<Parent> kParent{"Parent", run(&Parent::run)};

TEST(Children, GiveTheirRunIdAndThenTheirResult) {
  Scenario scenario{kParent};
  const auto first = scenario.task();
  EXPECT_EQ(commands_of(first), "START_CHILD_WORKFLOW_EXECUTION(child Echo)");
  const auto& attributes = first.commands(0).start_child_workflow_execution_command_attributes();
  EXPECT_EQ(attributes.task_queue().name(), testing::kQueue);
  EXPECT_EQ(attributes.input().payloads(0).data(), "\"hello\"");
  EXPECT_EQ(attributes.workflow_run_timeout().seconds(), 60);
  EXPECT_EQ(attributes.retry_policy().maximum_attempts(), 3);
  EXPECT_EQ(attributes.parent_close_policy(), testing::enums::PARENT_CLOSE_POLICY_ABANDON);
  scenario.start_child("child");
  EXPECT_EQ(commands_of(scenario.task()), "");
  scenario.complete_child("child", std::string{"hello"});
  EXPECT_EQ(result_of(scenario.task()), "run of child: hello");
}

TEST(Children, MayStartAndEndWithinOneTask) {
  Scenario scenario{kParent};
  scenario.task();
  scenario.start_child("child").complete_child("child", std::string{"at once"});
  EXPECT_EQ(result_of(scenario.task()), "run of child: at once");
}

TEST(Children, AStartThatIsRefusedFailsBothFutures) {
  Scenario scenario{kParent};
  scenario.task();
  scenario.refuse_child("child");
  EXPECT_EQ(result_of(scenario.task()), "already started");
}

struct CancelsChild {
  Task<std::string> run(Context& ctx, int type) {
    ChildWorkflowOptions options;
    options.id = "child";
    options.cancellation = static_cast<ChildCancellationType>(type);
    const auto child = ctx.start_child<std::string>("Echo", options, std::string{"x"});
    co_await child.started();
    co_await ctx.sleep(1s);
    child.cancel("no longer needed");
    std::string text;
    try {
      text = co_await child.result();
    } catch (const Failure& failure) {
      text = kind_of(failure);
    }
    co_await ctx.sleep(1s);
    co_return text;
  }
};
const Definition<CancelsChild> kCancelsChild{"CancelsChild", run(&CancelsChild::run)};

Scenario::Completion until_cancelled(Scenario& scenario) {
  scenario.task();
  scenario.start_child("child");
  scenario.task();
  scenario.fire_timer("1");
  return scenario.task();
}

TEST(Children, WaitForTheirRealEndWhenCancelled) {
  for (const bool completes : {true, false}) {
    Scenario scenario{kCancelsChild, static_cast<int>(ChildCancellationType::kWaitCompleted)};
    const auto cancelled = until_cancelled(scenario);
    EXPECT_EQ(commands_of(cancelled), "REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION(child)");
    const auto& request =
        cancelled.commands(0).request_cancel_external_workflow_execution_command_attributes();
    EXPECT_TRUE(request.child_workflow_only());
    EXPECT_EQ(request.reason(), "no longer needed");
    scenario.answer_external("child", true);
    EXPECT_EQ(commands_of(scenario.task()), "");
    if (completes) {
      scenario.complete_child("child", std::string{"in time"});
    } else {
      scenario.cancel_child("child");
    }
    scenario.task();
    scenario.fire_timer("2");
    EXPECT_EQ(result_of(scenario.task()), completes ? "in time" : "cancelled");
  }
}

TEST(Children, TryCancelResolvesAtOnceAndSwallowsTheEnd) {
  Scenario scenario{kCancelsChild, static_cast<int>(ChildCancellationType::kTryCancel)};
  EXPECT_EQ(commands_of(until_cancelled(scenario)),
            "REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION(child) START_TIMER(2)");
  scenario.answer_external("child", true).cancel_child("child");
  scenario.task();
  scenario.fire_timer("2");
  EXPECT_EQ(result_of(scenario.task()), "cancelled");
}

TEST(Children, AbandonSendsNothing) {
  Scenario scenario{kCancelsChild, static_cast<int>(ChildCancellationType::kAbandon)};
  EXPECT_EQ(commands_of(until_cancelled(scenario)), "START_TIMER(2)");
  scenario.complete_child("child", std::string{"ignored"}).fire_timer("2");
  EXPECT_EQ(result_of(scenario.task()), "cancelled");
}

TEST(Children, WaitRequestedResolvesWithTheAnswerToTheRequest) {
  for (const bool taken : {true, false}) {
    Scenario scenario{kCancelsChild, static_cast<int>(ChildCancellationType::kWaitRequested)};
    EXPECT_EQ(commands_of(until_cancelled(scenario)),
              "REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION(child)");
    scenario.answer_external("child", taken);
    EXPECT_EQ(commands_of(scenario.task()), "START_TIMER(2)");
    scenario.cancel_child("child").fire_timer("2");
    EXPECT_EQ(result_of(scenario.task()), "cancelled");
  }
}

TEST(Children, TheEndThatComesWithTheCancellationTakesTheRequestBack) {
  Scenario scenario{kCancelsChild, static_cast<int>(ChildCancellationType::kWaitCompleted)};
  scenario.task();
  scenario.start_child("child");
  scenario.task();
  // The child's end is applied first; cancelling is too late then.
  scenario.complete_child("child", std::string{"done"}).fire_timer("1");
  EXPECT_EQ(commands_of(scenario.task()), "START_TIMER(2)");
  scenario.fire_timer("2");
  EXPECT_EQ(result_of(scenario.task()), "done");
}

struct CancelledScope {
  Task<std::string> run(Context& ctx) {
    ChildWorkflowOptions options;
    options.id = "child";
    const auto child = ctx.start_child<std::string>("Echo", options);
    try {
      co_await child.result();
    } catch (const Failure& failure) {
      co_return kind_of(failure);
    }
    co_return "?";
  }
};
const Definition<CancelledScope> kCancelledScope{"CancelledScope", run(&CancelledScope::run)};

TEST(Children, AreCancelledWithTheWorkflow) {
  Scenario scenario{kCancelledScope};
  scenario.task();
  scenario.start_child("child").cancel();
  EXPECT_EQ(commands_of(scenario.task()), "REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION(child)");
  scenario.answer_external("child", true).cancel_child("child");
  EXPECT_EQ(result_of(scenario.task()), "cancelled");
}

TEST(Children, CancelledBeforeTheyWereSentLeaveNothing) {
  Scenario scenario{kCancelledScope};
  scenario.cancel();
  const auto only = scenario.task();
  EXPECT_EQ(commands_of(only), "COMPLETE_WORKFLOW_EXECUTION");
}

struct NamesNothing {
  Task<std::string> run(Context& ctx) {
    const auto a = ctx.start_child<std::string>("Echo", {});
    const auto b = ctx.start_child<std::string>("Echo", {});
    co_await join(ctx, {a.result(), b.result()});
    co_return a.id() == b.id() ? "same" : "two";
  }
};
const Definition<NamesNothing> kNamesNothing{"NamesNothing", run(&NamesNothing::run)};

TEST(Children, WithoutAnIdGetARandomOneThatReplays) {
  Scenario scenario{kNamesNothing};
  const auto first = scenario.task();
  ASSERT_EQ(first.commands_size(), 2);
  for (const auto& command : first.commands()) {
    const std::string& id =
        command.start_child_workflow_execution_command_attributes().workflow_id();
    EXPECT_EQ(id.size(), 36U);
    scenario.start_child(id).complete_child(id, std::string{"ok"});
  }
  EXPECT_EQ(result_of(scenario.task()), "two");
}

// --- signals and requests

struct Talks {
  Task<std::string> run(Context& ctx) {
    const ExternalWorkflow other = ctx.external("other");
    std::string text;
    try {
      co_await other.signal("greet", std::string{"hi"}, 7);
      text += "signalled ";
      co_await other.cancel("enough");
      text += "cancelled";
    } catch (const ApplicationError& error) {
      text += error.type();
    }
    co_return text;
  }
};
const Definition<Talks> kTalks{"Talks", run(&Talks::run)};

TEST(Externals, AreSignalledAndCancelled) {
  Scenario scenario{kTalks};
  const auto first = scenario.task();
  EXPECT_EQ(commands_of(first), "SIGNAL_EXTERNAL_WORKFLOW_EXECUTION(other greet)");
  const auto& signal = first.commands(0).signal_external_workflow_execution_command_attributes();
  EXPECT_EQ(signal.input().payloads_size(), 2);
  EXPECT_FALSE(signal.child_workflow_only());
  scenario.answer_external("other", true);
  EXPECT_EQ(commands_of(scenario.task()), "REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION(other)");
  scenario.answer_external("other", true);
  EXPECT_EQ(result_of(scenario.task()), "signalled cancelled");
}

TEST(Externals, ThatAreNotThereFailTheCall) {
  Scenario signalled{kTalks};
  signalled.task();
  signalled.answer_external("other", false);
  EXPECT_EQ(result_of(signalled.task()), "ExternalWorkflowExecutionNotFound");

  Scenario cancelled{kTalks};
  cancelled.task();
  cancelled.answer_external("other", true);
  cancelled.task();
  cancelled.answer_external("other", false);
  EXPECT_EQ(result_of(cancelled.task()), "signalled ExternalWorkflowExecutionNotFound");
}

struct GivesUp {
  Task<std::string> run(Context& ctx) {
    const auto sent = ctx.external("other").signal("greet");
    sent.cancel();
    try {
      co_await sent;
    } catch (const CanceledError&) {
      co_return "never sent";
    }
    co_return "?";
  }
};
const Definition<GivesUp> kGivesUp{"GivesUp", run(&GivesUp::run)};

TEST(Externals, ASignalCancelledBeforeItWasSentLeavesNothing) {
  Scenario scenario{kGivesUp};
  const auto only = scenario.task();
  EXPECT_EQ(commands_of(only), "COMPLETE_WORKFLOW_EXECUTION");
  EXPECT_EQ(result_of(only), "never sent");
}

TEST(Children, AnotherTypeThanTheHistorysIsNondeterminism) {
  testing::HistoryBuilder history;
  history.started("CancelsChild", 0)
      .task_started()
      .task_completed()
      .child_initiated("child", "Other");
  WorkflowRegistry registry;
  registry.add(kCancelsChild);
  const auto replayed = Replayer{registry}.replay(history.history());
  ASSERT_FALSE(replayed.has_value());
  EXPECT_TRUE(replayed.error().nondeterminism);
  EXPECT_THAT(replayed.error().message, ::testing::HasSubstr("\"Other\""));
  EXPECT_THAT(replayed.error().message, ::testing::HasSubstr("child_test.cpp"));
}

}  // namespace
}  // namespace tempora
