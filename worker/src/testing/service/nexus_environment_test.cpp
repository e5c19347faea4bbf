// Operations of Nexus in the testing service: with a fake, with a real handler and its workflow,
// tried again, timed out and cancelled, all on virtual time.
#include <gtest/gtest.h>

#include <atomic>
#include <tempora/nexus_handler.hpp>
#include <tempora/testing/environment.hpp>

namespace tempora::testing {
namespace {

using namespace std::chrono_literals;

const NexusOperation<std::string, std::string> kShip{"shipping", "ship"};

struct Shipping {
  Task<std::string> run(Context& ctx, std::string what) {
    co_await ctx.sleep(24h);
    if (what == "bomb") throw ApplicationError{"no", "Refused", true};
    co_return what + " shipped";
  }
};
const Definition<Shipping> kShipping{"Shipping", run(&Shipping::run)};

struct Order {
  std::string what;
  int close_s = 0;
  int cancel_after_s = 0;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Order, what, close_s, cancel_after_s)

struct Buyer {
  Task<std::string> run(Context& ctx, Order order) {
    NexusOperationOptions options;
    options.schedule_to_close = std::chrono::seconds{order.close_s};
    const auto call = ctx.nexus("shipping").start(kShip, order.what, options);
    std::string text;
    try {
      if (order.cancel_after_s > 0) {
        co_await ctx.sleep(std::chrono::seconds{order.cancel_after_s});
        call.cancel();
      }
      text = co_await call.result();
    } catch (const Failure& failure) {
      if (is_cancellation(failure)) {
        text = "cancelled";
      } else if (const auto* error = find_application_error(failure)) {
        text = "failed: " + error->type();
      } else if (dynamic_cast<const TimeoutError*>(failure.cause()) != nullptr) {
        text = "timed out";
      } else {
        text = failure.cause() == nullptr ? failure.message() : failure.cause()->message();
      }
    }
    co_return text;
  }
};
const Definition<Buyer> kBuyer{"Buyer", run(&Buyer::run)};

std::string bought(Environment& env, const Order& order) {
  const auto result = env.start(kBuyer, "buyer", order).result<std::string>();
  if (!result) return result.error().text();
  const auto replayed = env.replay("buyer");
  EXPECT_TRUE(replayed) << replayed.error().message;
  return *result;
}

TEST(NexusEnvironment, AFakeAnswersAtOnce) {
  Environment env;
  env.add(kBuyer);
  env.add(kShip, [](const std::string& what) { return what + " faked"; });
  EXPECT_EQ(bought(env, {.what = "a book"}), "a book faked");
  EXPECT_EQ(env.elapsed(), 0s);
}

void serve(Environment& env) {
  env.add(kBuyer);
  env.add(kShipping);
  env.add(kShip, [](NexusContext& context, const std::string& what) {
    return context.start_workflow(kShipping, {.id = "shipping of " + what}, what);
  });
}

TEST(NexusEnvironment, AWorkflowIsWhatTheOperationGoesOnAs) {
  Environment env;
  serve(env);
  EXPECT_EQ(bought(env, {.what = "a book"}), "a book shipped");
  EXPECT_EQ(env.elapsed(), 24h);
}

TEST(NexusEnvironment, AFailureOfTheWorkflowIsTheOperations) {
  Environment env;
  serve(env);
  EXPECT_EQ(bought(env, {.what = "bomb"}), "failed: Refused");
}

TEST(NexusEnvironment, AnOperationTimesOut) {
  Environment env;
  serve(env);
  EXPECT_EQ(bought(env, {.what = "a book", .close_s = 60}), "timed out");
  EXPECT_EQ(env.elapsed(), 60s);
}

TEST(NexusEnvironment, CancellingTheOperationCancelsTheWorkflow) {
  Environment env;
  serve(env);
  EXPECT_EQ(bought(env, {.what = "a book", .cancel_after_s = 5}), "cancelled");
  EXPECT_EQ(env.elapsed(), 5s);
  EXPECT_EQ(env.client().handle("shipping of a book").describe()->status,
            WorkflowStatus::kCanceled);
}

TEST(NexusEnvironment, AHandlerThatCannotYetIsAskedAgain) {
  Environment env;
  env.add(kBuyer);
  env.add(kShip, [tries = std::make_shared<std::atomic<int>>(0)](const std::string& what) {
    if (++*tries < 3) throw NexusHandlerError{NexusErrorType::kUnavailable, "closed"};
    return what + " at last";
  });
  EXPECT_EQ(bought(env, {.what = "a book"}), "a book at last");
  EXPECT_EQ(env.elapsed(), 1s + 2s);
}

TEST(NexusEnvironment, AHandlerThatNeverCanIsNotAskedAgain) {
  Environment env;
  env.add(kBuyer);
  env.add(kShip, [](const std::string&) -> std::string {
    throw NexusHandlerError{NexusErrorType::kBadRequest, "what?"};
  });
  EXPECT_EQ(bought(env, {.what = "a book"}), "what?");
}

}  // namespace
}  // namespace tempora::testing
