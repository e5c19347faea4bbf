// What workflow code must not do fails its task, also when the code catches what was thrown.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <tempora/definition.hpp>
#include <tempora/saga.hpp>

#include "testing/scenario.hpp"

namespace tempora {
namespace {

using namespace std::chrono_literals;
using testing::commands_of;
using ::testing::HasSubstr;
using testing::Scenario;

// Nobody says how long it may take.
const ActivityType<Void, int> kEndless{"endless", {}};
const ActivityType<Void, Void> kUndo{"undo", {.start_to_close = 10s}};

// Does one thing that it must not do, and catches all that comes of it.
struct Swallows {
  Task<std::string> run(Context& ctx, std::string what) {
    try {
      if (what == "activity") static_cast<void>(ctx.start(kEndless));
      if (what == "local activity") static_cast<void>(ctx.start_local(kEndless));
      if (what == "select") static_cast<void>(co_await select(ctx, {}));
      if (what == "side effect") {
        ctx.side_effect([&ctx] {
          ctx.upsert_memo("a", 1);
          return 1;
        });
      }
      if (what == "condition") {
        Task<bool> waits = ctx.wait_until([&ctx] { return ctx.random() == 1; });
        co_await waits;
      }
      if (what == "saga") {
        const Saga saga{ctx};
        saga.rethrow();
      }
    } catch (const std::exception&) {
      what += ", caught";
    }
    co_await ctx.sleep(1s);
    co_return what;
  }
};
const Definition<Swallows> kSwallows{"Swallows", run(&Swallows::run)};

void expect_failed(const Scenario& scenario, const std::string& why) {
  EXPECT_EQ(scenario.outcome().kind, engine::TaskOutcome::Kind::kFailed) << why;
  EXPECT_TRUE(scenario.outcome().evict) << why;
  EXPECT_EQ(scenario.outcome().cause,
            testing::enums::WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_WORKER_UNHANDLED_FAILURE);
  EXPECT_THAT(scenario.outcome().failure.message(), HasSubstr(why));
}

TEST(Misuse, FailsTheTaskAlsoWhenItIsCaught) {
  const std::map<std::string, std::string> cases{
      {"activity", "activity endless: set start_to_close"},
      {"local activity", "local activity endless: set start_to_close"},
      {"select", "select: there is nothing to wait for"},
      {"saga", "Saga::rethrow without a failure remembered"},
      {"side effect", "upsert_memo: a query, validator or condition must change nothing"},
      {"condition", "random: a query, validator or condition must change nothing"}};
  for (const auto& [what, why] : cases) {
    Scenario scenario{kSwallows, what};
    scenario.task();
    expect_failed(scenario, why);
  }
}

TEST(Misuse, ThatDoesNotHappenFailsNothing) {
  Scenario scenario{kSwallows, std::string{"nothing"}};
  EXPECT_EQ(commands_of(scenario.task()), "START_TIMER(1)");
}

struct Translates {
  Task<void> run(Context& ctx) {
    try {
      static_cast<void>(ctx.start(kEndless));
    } catch (const std::exception& error) {
      throw ApplicationError{error.what(), "Mine", true};
    }
    co_return;
  }
};
const Definition<Translates> kTranslates{"Translates", run(&Translates::run)};

TEST(Misuse, DoesNotFailTheWorkflowInstead) {
  Scenario scenario{kTranslates};
  scenario.task();
  expect_failed(scenario, "activity endless: set start_to_close");
}

struct Compensates {
  Task<void> run(Context& ctx) {
    Saga saga{ctx};
    try {
      saga.on_failure(kUndo, Void{});
      static_cast<void>(ctx.start(kEndless));
    } catch (const std::exception&) {
      saga.remember();
    }
    co_await saga.unwind();
    saga.rethrow();
  }
};
const Definition<Compensates> kCompensates{"Compensates", run(&Compensates::run)};

TEST(Misuse, IsNotCompensatedAsAFailure) {
  Scenario scenario{kCompensates};
  EXPECT_EQ(commands_of(scenario.task()), "");
  expect_failed(scenario, "activity endless: set start_to_close");
}

// Earlier builds let it pass where it was caught.
TEST(Misuse, OfATaskThatIsDoneIsReplayedAsItWas) {
  testing::HistoryBuilder history;
  history.started("Swallows", std::string{"activity"}).task_started().task_completed();
  history.timer_started("1").timer_fired(5, "1").task_started();
  WorkflowRegistry registry;
  registry.add(kSwallows);
  engine::Run run{registry, {}};
  const auto outcome = run.process(history.task(0, 3));
  ASSERT_EQ(outcome.kind, engine::TaskOutcome::Kind::kCompleted) << outcome.failure.message();
  EXPECT_EQ(commands_of(outcome.completion), "COMPLETE_WORKFLOW_EXECUTION");
}

// Its messages catch what they did wrong.
struct Messages {
  explicit Messages(Context& context) : ctx(context) {}
  Task<int> run(Context&) {
    co_await ctx.wait_until([this] { return done; });
    co_return number;
  }
  int asked() const {
    meddle();
    return number;
  }
  void checked(const int&) const { meddle(); }
  int set(Context&, int given) { return number = given; }
  int set_badly(Context&, int given) {
    try {
      static_cast<void>(ctx.start(kEndless));
    } catch (const std::exception&) {
      number = given;
    }
    return number;
  }
  void finish(Context&) { done = true; }
  void meddle() const {
    try {
      ctx.upsert_memo("a", 1);
    } catch (const std::exception&) {
      ++caught;
    }
  }

  Context& ctx;
  int number = 0;
  bool done = false;
  static inline int caught = 0;
};
const Definition<Messages> kMessages{"Messages",
                                     run(&Messages::run),
                                     query("asked", &Messages::asked),
                                     signal("finish", &Messages::finish),
                                     update("set", &Messages::set, &Messages::checked),
                                     update("set_badly", &Messages::set_badly)};

TEST(Misuse, InAQueryFailsTheQueryAndNothingElse) {
  Scenario scenario{kMessages};
  scenario.query("q1", "asked");
  const auto first = scenario.task();
  EXPECT_THAT(first.query_results().at("q1").error_message(), HasSubstr("must change nothing"));
  EXPECT_THAT(scenario.legacy_query("asked").error_message(), HasSubstr("must change nothing"));
  EXPECT_GT(Messages::caught, 0);
  scenario.signal("finish");
  EXPECT_EQ(commands_of(scenario.task()), "COMPLETE_WORKFLOW_EXECUTION");
}

TEST(Misuse, InAValidatorRejectsTheUpdateAndNothingElse) {
  Scenario scenario{kMessages};
  scenario.task();
  scenario.update("u1", "set", 5);
  const auto rejected = scenario.task();
  EXPECT_EQ(commands_of(rejected), "");
  ASSERT_EQ(rejected.messages_size(), 1);
  temporal::api::update::v1::Rejection rejection;
  ASSERT_TRUE(rejected.messages(0).body().UnpackTo(&rejection));
  EXPECT_THAT(rejection.failure().message(), HasSubstr("must change nothing"));
  scenario.signal("finish");
  EXPECT_EQ(commands_of(scenario.task()), "COMPLETE_WORKFLOW_EXECUTION");
}

// Its validator throws a number.
struct Picky {
  Task<void> run(Context& ctx) {
    co_await ctx.wait_until([this] { return number > 0; });
  }
  int set(Context&, int given) { return number = given; }
  void checked(const int& given) const {
    if (given < 0) throw given;
  }
  int number = 0;
};
const Definition<Picky> kPicky{"Picky", run(&Picky::run),
                               update("set", &Picky::set, &Picky::checked)};

TEST(Misuse, AValidatorRejectsAlsoWithWhatIsNoException) {
  Scenario scenario{kPicky};
  scenario.task();
  scenario.update("u1", "set", -1);
  const auto rejected = scenario.task();
  EXPECT_EQ(scenario.outcome().kind, engine::TaskOutcome::Kind::kCompleted);
  EXPECT_EQ(commands_of(rejected), "");
  ASSERT_EQ(rejected.messages_size(), 1);
  temporal::api::update::v1::Rejection rejection;
  ASSERT_TRUE(rejected.messages(0).body().UnpackTo(&rejection));
  EXPECT_THAT(rejection.failure().message(), HasSubstr("not a std::exception"));
  scenario.update("u2", "set", 1);
  EXPECT_THAT(commands_of(scenario.task()), HasSubstr("COMPLETE_WORKFLOW_EXECUTION"));
}

TEST(Misuse, InAnUpdateHandlerFailsTheTask) {
  Scenario scenario{kMessages};
  scenario.task();
  scenario.update("u1", "set_badly", 5);
  scenario.task();
  expect_failed(scenario, "activity endless: set start_to_close");
}

}  // namespace
}  // namespace tempora
