// Nexus operations as their caller sees them: each scenario is done by a cached run, by a fresh
// one, and by the replayer.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <tempora/definition.hpp>
#include <tempora/nexus.hpp>

#include "testing/scenario.hpp"

namespace tempora {
namespace {

using namespace std::chrono_literals;
using testing::commands_of;
using testing::result_of;
using testing::Scenario;

const NexusOperation<std::string, std::string> kGreet{"greetings", "greet"};

// What a future that failed with `error` is, in a few words.
std::string kind_of(const Failure& failure) {
  const auto* nexus = dynamic_cast<const NexusOperationError*>(&failure);
  if (nexus == nullptr) return "not an operation's failure";
  if (is_cancellation(failure)) return "cancelled";
  if (const auto* handler = dynamic_cast<const NexusHandlerError*>(failure.cause()))
    return std::string{to_string(handler->type())} + (handler->retryable() ? ", retryable" : "");
  if (const auto* application = find_application_error(failure))
    return "failed: " + application->type();
  return "?";
}

struct Caller {
  Task<std::string> run(Context& ctx) {
    const NexusOperationOptions options{.schedule_to_close = 60s,
                                        .schedule_to_start = 10s,
                                        .start_to_close = 50s,
                                        .headers = {{"tenant", "blue"}}};
    const auto call = ctx.nexus("greeter").start(kGreet, "world", options);
    std::string text;
    try {
      text = co_await call.started();
      text += ": ";
      text += co_await call.result();
    } catch (const Failure& failure) {
      text += kind_of(failure);
    }
    co_return text;
  }
};
const Definition<Caller> kCaller{"Caller", run(&Caller::run)};

TEST(NexusOperations, GiveTheirTokenAndThenTheirResult) {
  Scenario scenario{kCaller};
  const auto first = scenario.task();
  EXPECT_EQ(commands_of(first), "SCHEDULE_NEXUS_OPERATION(greet)");
  const auto& order = first.commands(0).schedule_nexus_operation_command_attributes();
  EXPECT_EQ(order.endpoint(), "greeter");
  EXPECT_EQ(order.service(), "greetings");
  EXPECT_EQ(order.input().data(), "\"world\"");
  EXPECT_EQ(order.schedule_to_close_timeout().seconds(), 60);
  EXPECT_EQ(order.schedule_to_start_timeout().seconds(), 10);
  EXPECT_EQ(order.start_to_close_timeout().seconds(), 50);
  EXPECT_EQ(order.nexus_header().at("tenant"), "blue");
  scenario.start_nexus("greet", "token");
  EXPECT_EQ(commands_of(scenario.task()), "");
  scenario.complete_nexus("greet", std::string{"hello"});
  EXPECT_EQ(result_of(scenario.task()), "token: hello");
}

TEST(NexusOperations, ThatAreDoneAtOnceHaveNoToken) {
  Scenario scenario{kCaller};
  scenario.task();
  scenario.complete_nexus("greet", std::string{"hello"});
  EXPECT_EQ(result_of(scenario.task()), ": hello");
}

TEST(NexusOperations, SayWhyTheyDidNotSucceed) {
  const std::pair<std::shared_ptr<Failure>, std::string> cases[] = {
      {std::make_shared<ApplicationError>("no", "Refused", true), "failed: Refused"},
      {std::make_shared<CanceledError>(), "cancelled"},
      {std::make_shared<NexusHandlerError>(NexusErrorType::kBadRequest, "no"), "BAD_REQUEST"},
      {std::make_shared<NexusHandlerError>(NexusErrorType::kUnavailable, "no"),
       "UNAVAILABLE, retryable"},
      {std::make_shared<NexusHandlerError>(NexusErrorType::kInternal, "no", false), "INTERNAL"}};
  for (const auto& [cause, text] : cases) {
    Scenario scenario{kCaller};
    scenario.task();
    scenario.fail_nexus("greet", *cause);
    EXPECT_EQ(result_of(scenario.task()), text);
  }
}

struct Canceller {
  Task<std::string> run(Context& ctx, int type, bool at_once) {
    NexusOperationOptions options;
    options.cancellation = static_cast<NexusCancellationType>(type);
    const auto call = ctx.nexus("greeter").start(kGreet, "world", options);
    if (!at_once) co_await call.started();
    call.cancel("no longer needed");
    std::string text;
    try {
      text = co_await call.result();
    } catch (const Failure& failure) {
      text = kind_of(failure);
    }
    co_await ctx.sleep(1s);
    co_return text;
  }
};
const Definition<Canceller> kCanceller{"Canceller", run(&Canceller::run)};

Scenario::Completion until_cancelled(Scenario& scenario) {
  scenario.task();
  scenario.start_nexus("greet", "token");
  return scenario.task();
}
std::string after_timer(Scenario& scenario) {
  scenario.fire_timer("1");
  return result_of(scenario.task());
}

TEST(NexusOperations, WaitForTheirRealEndWhenCancelled) {
  for (const bool completes : {true, false}) {
    Scenario scenario{kCanceller, static_cast<int>(NexusCancellationType::kWaitCompleted), false};
    EXPECT_EQ(commands_of(until_cancelled(scenario)), "REQUEST_CANCEL_NEXUS_OPERATION");
    scenario.answer_nexus_cancel("greet");
    EXPECT_EQ(commands_of(scenario.task()), "") << "still waiting";
    if (completes) {
      scenario.complete_nexus("greet", std::string{"anyway"});
    } else {
      scenario.fail_nexus("greet", CanceledError{});
    }
    EXPECT_EQ(commands_of(scenario.task()), "START_TIMER(1)");
    EXPECT_EQ(after_timer(scenario), completes ? "anyway" : "cancelled");
  }
}

TEST(NexusOperations, AreGivenUpWhenTheRequestWasTakenOrRefused) {
  const NexusHandlerError refusal{NexusErrorType::kNotImplemented, "never"};
  for (const bool taken : {true, false}) {
    Scenario scenario{kCanceller, static_cast<int>(NexusCancellationType::kWaitRequested), false};
    EXPECT_EQ(commands_of(until_cancelled(scenario)), "REQUEST_CANCEL_NEXUS_OPERATION");
    scenario.answer_nexus_cancel("greet", taken ? nullptr : &refusal);
    EXPECT_EQ(commands_of(scenario.task()), "START_TIMER(1)");
    scenario.complete_nexus("greet", std::string{"too late"});
    EXPECT_EQ(after_timer(scenario), taken ? "cancelled" : "NOT_IMPLEMENTED");
  }
}

TEST(NexusOperations, AreGivenUpAtOnceByTryCancelAndAbandon) {
  for (const bool told : {true, false}) {
    const auto type = told ? NexusCancellationType::kTryCancel : NexusCancellationType::kAbandon;
    Scenario scenario{kCanceller, static_cast<int>(type), false};
    EXPECT_EQ(commands_of(until_cancelled(scenario)),
              told ? "REQUEST_CANCEL_NEXUS_OPERATION START_TIMER(1)" : "START_TIMER(1)");
    scenario.complete_nexus("greet", std::string{"too late"});
    // The answer to the request overtaken by the end of what it is about.
    if (told) scenario.answer_nexus_cancel("greet");
    EXPECT_EQ(after_timer(scenario), "cancelled");
  }
}

TEST(NexusOperations, AreNeverScheduledIfCancelledBefore) {
  Scenario scenario{kCanceller, static_cast<int>(NexusCancellationType::kWaitCompleted), true};
  EXPECT_EQ(commands_of(scenario.task()), "START_TIMER(1)");
  EXPECT_EQ(after_timer(scenario), "cancelled");
}

struct InScope {
  Task<std::string> run(Context& ctx) {
    const auto call = ctx.nexus("greeter").start(kGreet, "world");
    std::string text;
    try {
      text = co_await call.result();
    } catch (const Failure& failure) {
      text = kind_of(failure);
    }
    co_return text;
  }
};
const Definition<InScope> kInScope{"InScope", run(&InScope::run)};

TEST(NexusOperations, AreCancelledWithTheirScope) {
  Scenario scenario{kInScope};
  scenario.task();
  scenario.cancel();
  EXPECT_EQ(commands_of(scenario.task()), "REQUEST_CANCEL_NEXUS_OPERATION");
  scenario.fail_nexus("greet", CanceledError{});
  EXPECT_EQ(result_of(scenario.task()), "cancelled");
}

// The same code by another name of the operation.
struct Changed {
  Task<std::string> run(Context& ctx) {
    const NexusOperation<std::string, std::string> other{"greetings", "insult"};
    const std::string text = co_await ctx.nexus("greeter").execute(other, "world");
    co_return text;
  }
};

TEST(NexusOperations, AreNamedWhenTheCodeHasChanged) {
  Scenario scenario{kInScope};
  scenario.task();
  scenario.complete_nexus("greet", std::string{"hello"});
  scenario.task();
  WorkflowRegistry changed;
  changed.add(Definition<Changed>{"InScope", run(&Changed::run)});
  const auto replayed = Replayer{changed}.replay(scenario.history().history());
  ASSERT_FALSE(replayed.has_value());
  EXPECT_THAT(replayed.error().message,
              ::testing::HasSubstr("NexusOperationScheduled service \"greetings\" operation "
                                   "\"greet\", code ScheduleNexusOperation service "
                                   "\"greetings\" operation \"insult\" at"));
  EXPECT_THAT(replayed.error().message, ::testing::HasSubstr("nexus_test.cpp"));
}

}  // namespace
}  // namespace tempora
