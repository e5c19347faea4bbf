// Text that is not UTF-8: the server refuses the whole request for it, with an error that says no
// more. What others wrote is repaired, what the workflow names itself fails its task.
#include <temporal/api/enums/v1/event_type.pb.h>
#include <temporal/api/history/v1/message.pb.h>

#include <atomic>
#include <peers.hpp>
#include <stdexcept>

#include "nexus_stage.hpp"

namespace tempora::behaviour {
namespace {

namespace enums = temporal::api::enums::v1;

const std::string kLatin1 =
    "Stra\xdf"
    "e";
const std::string kRepaired =
    "Stra\xef\xbf\xbd"
    "e";

const ActivityOptions kOnce{.start_to_close = 10s, .retry = RetryPolicy{.maximum_attempts = 1}};
const ActivityType<std::string, std::string> kFails{"fails", kOnce};
const ActivityType<std::string, std::string> kNamedInLatin1{kLatin1, kOnce};

struct Speaks {
  static std::atomic<bool> mended;
  bool done = false;

  Task<std::string> run(Context& ctx, std::string how) {
    if (how == "throw") throw ApplicationError{kLatin1, kLatin1};
    if (how == "wait") {
      co_await ctx.wait_until([this] { return done; });
      co_return how;
    }
    const auto& type = how == "name" && !mended ? kNamedInLatin1 : kFails;
    try {
      co_return co_await ctx.execute(type, how);
    } catch (const ActivityError& error) {
      co_return find_application_error(error) == nullptr ? "timed out" : error.cause()->what();
    }
  }
  void finish(Context&) { done = true; }
  std::string ask() const { throw std::runtime_error{kLatin1}; }
  Task<int> set(Context& /*ctx*/, int /*value*/) {
    throw ApplicationError{kLatin1};
    co_return 0;
  }
};
std::atomic<bool> Speaks::mended = false;
const Definition<Speaks> kSpeaks{"Speaks", run(&Speaks::run), signal("finish", &Speaks::finish),
                                 query("ask", &Speaks::ask), update("set", &Speaks::set)};

void play(Stage& stage) {
  stage.runs(kSpeaks).does(kFails, [](ActivityContext&, const std::string& /*how*/) -> std::string {
    throw std::runtime_error{kLatin1};
  });
  stage.start_worker();
}

TEST(Text, OfAFailureIsRepaired) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    play(stage);
    const std::string activity = "activity";
    EXPECT_EQ(must(stage.start(kSpeaks, activity).result<std::string>()), kRepaired);
    const std::string thrown = "throw";
    const auto failed = stage.start(kSpeaks, thrown).result<std::string>();
    ASSERT_FALSE(failed);
    ASSERT_NE(failed.error().application_error(), nullptr) << failed.error().text();
    EXPECT_EQ(failed.error().application_error()->what(), kRepaired);
    EXPECT_EQ(failed.error().application_error()->type(), kRepaired);
  });
}

TEST(Text, OfAnAnswerThatFailsIsRepaired) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    play(stage);
    const std::string wait = "wait";
    const auto handle = stage.start(kSpeaks, wait);
    const auto answer = handle.query<std::string>("ask");
    ASSERT_FALSE(answer);
    EXPECT_NE(answer.error().message.find(kRepaired), std::string::npos) << answer.error().text();
    const auto changed = handle.update<int>("set", {}, 1);
    ASSERT_FALSE(changed);
    ASSERT_NE(changed.error().application_error(), nullptr) << changed.error().text();
    EXPECT_EQ(changed.error().application_error()->what(), kRepaired);
    must(handle.signal("finish"));
    EXPECT_EQ(must(handle.result<std::string>()), wait);
  });
}

// The task fails with its reason, and the run goes on with code that is mended.
TEST(Text, OfANameFailsTheTaskAndNotTheWorkflow) {
  NEEDS_SERVER();
  Speaks::mended = false;
  with_default_cache([](Stage& stage) {
    play(stage);
    const std::string name = "name";
    const auto handle = stage.start(kSpeaks, name);
    stage.wait_for_event(handle, enums::EVENT_TYPE_WORKFLOW_TASK_FAILED);
    std::string told;
    for (const auto& event : must(handle.history())->events()) {
      if (event.event_type() == enums::EVENT_TYPE_WORKFLOW_TASK_FAILED)
        told = event.workflow_task_failed_event_attributes().failure().message();
    }
    EXPECT_NE(told.find("UTF-8"), std::string::npos) << told;
    Speaks::mended = true;
    EXPECT_EQ(must(handle.result<std::string>()), kRepaired);
  });
}

const NexusOperation<std::string, std::string> kOperation{"speaks", "speak"};

struct Listens {
  Task<std::string> run(Context& ctx, std::string endpoint, std::string how) {
    const Future<std::string> answer = ctx.nexus(endpoint).execute(kOperation, how);
    try {
      co_return co_await answer;
    } catch (const NexusOperationError& error) {
      const Failure* cause = error.cause();
      while (cause->cause() != nullptr) cause = cause->cause();
      co_return cause->what();
    }
  }
};
const Definition<Listens> kListens{"Listens", run(&Listens::run)};

TEST(Text, OfANexusHandlerIsRepaired) {
  NEEDS_SERVER();
  with_default_cache([](Stage& stage) {
    stage.runs(kListens).serves(kOperation,
                                [](NexusContext&, const std::string& how) -> std::string {
                                  if (how == "operation") throw NexusFailed{kLatin1};
                                  if (how == "cancelled") throw CanceledError{kLatin1};
                                  if (how == "application")
                                    throw ApplicationError{kLatin1, kLatin1, true};
                                  throw NexusHandlerError{NexusErrorType::kBadRequest, kLatin1};
                                });
    const OwnEndpoint endpoint{stage};
    stage.start_worker();
    for (const std::string how : {"operation", "cancelled", "application", "handler"}) {
      EXPECT_EQ(must(stage.start(kListens, endpoint.name(), how).result<std::string>()), kRepaired)
          << how;
    }
  });
}

// It names something, so that it cannot be repaired: the handler fails and may do it better.
TEST(Text, OfANexusTokenFailsTheHandler) {
  NEEDS_SERVER();
  with_default_cache([](Stage& stage) {
    std::atomic<int> tries{0};
    stage.runs(kListens).serves(kOperation, [&](NexusContext&, const std::string&) {
      ++tries;
      return NexusWorkflowRun<std::string>{kLatin1};
    });
    const OwnEndpoint endpoint{stage};
    stage.start_worker();
    const std::string how = "token";
    const auto told = must(stage.start(kListens, endpoint.name(), how).result<std::string>());
    EXPECT_NE(told.find("UTF-8"), std::string::npos) << told;
    EXPECT_EQ(tries, 1);
  });
}

}  // namespace
}  // namespace tempora::behaviour
