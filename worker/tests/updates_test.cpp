// Updates: accepted, rejected, failed, sent twice, with a start, and those that a rejection rolls
// back.
#include <temporal/api/enums/v1/event_type.pb.h>

#include <atomic>
#include <memory>
#include <peers.hpp>
#include <tempora/prometheus.hpp>
#include <thread>

#include "between_transport.hpp"
#include "stage.hpp"

namespace tempora::behaviour {
namespace {

namespace enums = temporal::api::enums::v1;

const ActivityType<int, int> kDouble{"double", {.start_to_close = 10s}};

struct Account {
  int balance = 0;
  bool closed = false;

  Task<int> run(Context& ctx) {
    co_await ctx.wait_until([this] { return closed; });
    co_await ctx.wait_until([&ctx] { return ctx.all_handlers_finished(); });
    co_return balance;
  }
  int deposit(Context&, int amount) {
    balance += amount;
    return balance;
  }
  void may_deposit(const int& amount) const {
    if (amount <= 0) throw ApplicationError{"amount must be positive", "InvalidAmount", true};
  }
  Task<int> double_it(Context& ctx) {
    const int now = balance;
    const int doubled = co_await ctx.execute(kDouble, now);
    balance = doubled;
    co_return balance;
  }
  Task<int> slow_deposit(Context& ctx, int amount) {
    co_await ctx.sleep(300ms);
    balance += amount;
    co_return balance;
  }
  Task<int> deposit_when_closed(Context& ctx, int amount) {
    co_await ctx.wait_until([this] { return closed; });
    balance += amount;
    co_return balance;
  }
  Task<int> overdraw(Context& ctx, int amount) {
    co_await ctx.sleep(10ms);
    throw ApplicationError{"balance too low by " + std::to_string(amount - balance), "Overdrawn",
                           true};
  }
  void close(Context&) { closed = true; }
  int read() const { return balance; }
};

const Definition<Account> kAccount{"Account",
                                   run(&Account::run),
                                   update("deposit", &Account::deposit, &Account::may_deposit),
                                   update("double", &Account::double_it),
                                   update("slow_deposit", &Account::slow_deposit),
                                   update("deposit_when_closed", &Account::deposit_when_closed),
                                   update("overdraw", &Account::overdraw),
                                   signal("close", &Account::close),
                                   query("read", &Account::read)};

void stage_account(Stage& stage) {
  stage.runs(kAccount).does(kDouble, [](ActivityContext&, const int& value) { return 2 * value; });
  stage.start_worker();
}

int close(const WorkflowHandle& handle) {
  must(handle.signal("close"));
  return must(handle.result<int>());
}

TEST(Updates, AreAcceptedAndAnswered) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage_account(stage);
    const auto handle = stage.start(kAccount);
    EXPECT_EQ(must(handle.update<int>("deposit", {}, 5)), 5);
    EXPECT_EQ(must(handle.update<int>("slow_deposit", {}, 2)), 7);
    EXPECT_EQ(must(handle.update<int>("deposit", {}, 1)), 8);
    EXPECT_EQ(close(handle), 8);
  });
}

TEST(Updates, MayCallActivities) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage_account(stage);
    const auto handle = stage.start(kAccount);
    EXPECT_EQ(must(handle.update<int>("deposit", {}, 5)), 5);
    EXPECT_EQ(must(handle.update<int>("double", {})), 10);
    EXPECT_EQ(must(handle.update<int>("double", {})), 20);
    EXPECT_EQ(close(handle), 20);
  });
}

TEST(Updates, RejectedOnesLeaveNothingBehindAndTheRunGoesOn) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage_account(stage);
    const auto handle = stage.start(kAccount);
    EXPECT_EQ(must(handle.update<int>("deposit", {}, 5)), 5);
    for (int i = 0; i < 3; ++i) {
      const auto rejected = handle.update<int>("deposit", {}, -1);
      ASSERT_FALSE(rejected.has_value());
      ASSERT_NE(rejected.error().application_error(), nullptr) << rejected.error().text();
      EXPECT_EQ(rejected.error().application_error()->type(), "InvalidAmount");
      EXPECT_EQ(must(handle.update<int>("deposit", {}, 1)), 6 + i);
    }
    const auto unknown = handle.update<int>("nobody", {}, 1);
    EXPECT_FALSE(unknown.has_value());
    EXPECT_EQ(must(handle.query<int>("read")), 8);
    EXPECT_EQ(close(handle), 8);
    EXPECT_EQ(stage.count_events(handle, enums::EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED), 4);
  });
}

// A run that was not rolled back would not fit the server's next task: it would be fetched and
// replayed, which nobody sees in a result.
TEST(Updates, RejectedOnesCostNoTaskAndLeaveTheCachedRunInItsPlace) {
  NEEDS_SERVER();
  with_default_cache([](Stage& stage) {
    const auto between = std::make_shared<BetweenTransport>(stage.client().transport());
    const auto metrics = std::make_shared<PrometheusMetrics>();
    stage.options.sticky_schedule_to_start_timeout = 30s;  // a slow machine is no reason to replay
    stage.options.metrics = metrics;
    stage.runs(kAccount);
    Worker worker{between, stage.client().namespace_name(), stage.options};
    worker.add(kAccount);
    worker.start();
    const auto handle = stage.start(kAccount);
    stage.wait_for_event(handle, enums::EVENT_TYPE_WORKFLOW_TASK_COMPLETED);
    for (int i = 1; i <= 3; ++i) {
      EXPECT_FALSE(handle.update<int>("deposit", {}, -1).has_value());
      EXPECT_FALSE(handle.update<int>("nobody", {}, 1).has_value());
      EXPECT_EQ(must(handle.update<int>("deposit", {}, 1)), i);
    }
    EXPECT_EQ(close(handle), 3);
    worker.shutdown();
    // One task for the start, one for each that was accepted, one for the signal.
    EXPECT_EQ(stage.count_events(handle, enums::EVENT_TYPE_WORKFLOW_TASK_SCHEDULED), 5);
    EXPECT_EQ(stage.count_events(handle, enums::EVENT_TYPE_WORKFLOW_TASK_STARTED), 5);
    EXPECT_EQ(between->calls()["GetWorkflowExecutionHistory"], 0);
    const std::string text = metrics->text();
    EXPECT_NE(text.find("temporal_sticky_cache_hit"), std::string::npos) << text;
    EXPECT_EQ(text.find("temporal_sticky_cache_miss"), std::string::npos) << text;
  });
}

TEST(Updates, FailedOnesTellTheCallerWhy) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage_account(stage);
    const auto handle = stage.start(kAccount);
    const auto failed = handle.update<int>("overdraw", {}, 7);
    ASSERT_FALSE(failed.has_value());
    ASSERT_NE(failed.error().application_error(), nullptr) << failed.error().text();
    EXPECT_EQ(failed.error().application_error()->type(), "Overdrawn");
    EXPECT_EQ(failed.error().application_error()->message(), "balance too low by 7");
    EXPECT_EQ(close(handle), 0);
  });
}

TEST(Updates, TheSameIdIsTheSameUpdate) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage_account(stage);
    const auto handle = stage.start(kAccount);
    for (int i = 0; i < 3; ++i)
      EXPECT_EQ(must(handle.update<int>("deposit", {.id = "once"}, 5)), 5);
    EXPECT_EQ(close(handle), 5);
  });
}

TEST(Updates, WithStartStartOnceAndUpdateEachTime) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage_account(stage);
    const StartOptions how = stage.start_options();
    for (int i = 1; i <= 3; ++i) {
      const auto both = must(stage.client().update_with_start<int>(kAccount, how, Payloads{},
                                                                   "deposit", UpdateOptions{}, 10));
      EXPECT_EQ(both.outcome, 10 * i);
      if (i == 1) stage.remember(both.workflow);
    }
    EXPECT_EQ(close(stage.client().handle(how.id)), 30);
  });
}

// The first one is not done before the account is closed: who waited for its outcome would wait for
// ever.
TEST(Updates, WithStartGiveAHandleAsSoonAsTheyAreAccepted) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage_account(stage);
    const StartOptions how = stage.start_options();
    const auto first = must(stage.client().start_update_with_start(
        kAccount, how, Payloads{}, "deposit_when_closed", UpdateOptions{}, 4));
    stage.remember(first.workflow);
    EXPECT_TRUE(first.workflow.started());
    const auto rejected = must(stage.client().start_update_with_start(
        "Account", how, Payloads{}, "deposit", UpdateOptions{}, -1));
    EXPECT_FALSE(rejected.workflow.started());
    const auto outcome = rejected.update.result<int>();
    ASSERT_FALSE(outcome.has_value());
    ASSERT_NE(outcome.error().application_error(), nullptr) << outcome.error().text();
    EXPECT_EQ(outcome.error().application_error()->type(), "InvalidAmount");
    EXPECT_EQ(close(first.workflow), 4);
    EXPECT_EQ(must(first.update.result<int>()), 4);
  });
}

TEST(Updates, ManyAtOnceAreAllDone) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage_account(stage);
    const auto handle = stage.start(kAccount);
    {
      std::vector<std::jthread> callers;
      for (int i = 0; i < 8; ++i) {
        callers.emplace_back([&, i] {
          const auto done = handle.update<int>(i % 2 == 0 ? "deposit" : "slow_deposit", {}, 1);
          EXPECT_TRUE(done.has_value()) << (done ? "" : done.error().text());
        });
      }
    }
    EXPECT_EQ(close(handle), 8);
  });
}

TEST(Updates, AcceptedOneSurvivesTheDeathOfTheWorker) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage_account(stage);
    const auto handle = stage.start(kAccount);
    must(handle.update<int>("deposit", {}, 1));
    const auto slow = must(handle.start_update("slow_deposit", {}, 2));
    stage.kill_worker();
    stage.start_worker();
    EXPECT_EQ(must(slow.result<int>()), 3);
    EXPECT_EQ(close(handle), 3);
  });
}

}  // namespace
}  // namespace tempora::behaviour
