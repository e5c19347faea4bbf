// How a failed attempt is judged: when it is tried again, when it is not, and what is no alarm.
#include <atomic>
#include <peers.hpp>
#include <tempora/prometheus.hpp>

#include "lines.hpp"
#include "stage.hpp"

namespace tempora::behaviour {
namespace {

// By the policy alone the second attempt would come after the workflow's own time-out.
const RetryPolicy kNextHour{.initial_interval = 1h};
const ActivityType<std::string, std::string> kDelays{"delays",
                                                     {.start_to_close = 20s, .retry = kNextHour}};

struct Delayed {
  Task<std::string> run(Context& ctx, bool local) {
    const std::string how = local ? "local" : "ordinary";
    if (local) co_return co_await ctx.start_local(kDelays, how);
    co_return co_await ctx.execute(kDelays, how);
  }
};
const Definition<Delayed> kDelayed{"Delayed", run(&Delayed::run)};

// The attempt says when it was due: the server's clock, and that of the worker for a local one.
TEST(ActivityFailures, SayThemselvesWhenTheNextAttemptIs) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kDelayed).does(kDelays, [](ActivityContext& ctx, const std::string& how) {
      if (ctx.info().attempt < 3)
        throw ApplicationError{"later", "Later"}.with_next_retry_delay(150ms);
      return how + " in attempt " + std::to_string(ctx.info().attempt);
    });
    stage.start_worker();
    const auto began = std::chrono::steady_clock::now();
    const auto ordinary = stage.start(kDelayed, false);
    const auto local = stage.start(kDelayed, true);
    EXPECT_EQ(must(ordinary.result<std::string>()), "ordinary in attempt 3");
    EXPECT_EQ(must(local.result<std::string>()), "local in attempt 3");
    EXPECT_GE(std::chrono::steady_clock::now() - began, 300ms);
  });
}

const RetryPolicy kSoon{.initial_interval = 20ms, .non_retryable_error_types = {"Hopeless"}};
const ActivityType<std::string, void> kFails{"fails", {.start_to_close = 20s, .retry = kSoon}};

struct Judged {
  Task<std::string> run(Context& ctx, std::string how, bool local) {
    ActivityOptions options;
    LocalActivityOptions locally;
    if (how == "three") {
      options.retry = RetryPolicy{.initial_interval = 20ms, .maximum_attempts = 3};
      locally.retry = options.retry;
    }
    try {
      if (local) {
        co_await ctx.start_local(kFails, how, locally);
      } else {
        co_await ctx.execute(kFails, how, options);
      }
    } catch (const ActivityError& failure) {
      const ApplicationError* error = find_application_error(failure);
      co_return error->type() + " " + error->message() + " " +
          std::to_string(static_cast<int>(failure.retry_state()));
    }
    co_return "it went well";
  }
};
const Definition<Judged> kJudged{"Judged", run(&Judged::run)};

TEST(ActivityFailures, ThatCannotGetBetterAreNotTriedAgain) {
  NEEDS_SERVER();
  namespace enums = temporal::api::enums::v1;
  with_each_cache([](Stage& stage) {
    stage.runs(kJudged).does(kFails, [](ActivityContext& ctx, const std::string& how) {
      const std::string attempt = std::to_string(ctx.info().attempt);
      if (how == "flag") throw ApplicationError{attempt, "Final", true};
      if (how == "type") throw ApplicationError{attempt, "Hopeless"};
      throw ApplicationError{attempt, "Hope"};
    });
    stage.start_worker();
    const auto final = std::to_string(enums::RETRY_STATE_NON_RETRYABLE_FAILURE);
    const auto spent = std::to_string(enums::RETRY_STATE_MAXIMUM_ATTEMPTS_REACHED);
    const std::vector<std::pair<std::string, std::string>> cases{{"flag", "Final 1 " + final},
                                                                 {"type", "Hopeless 1 " + final},
                                                                 {"three", "Hope 3 " + spent}};
    for (const bool local : {false, true}) {
      std::vector<WorkflowHandle> all;
      for (const auto& [how, expected] : cases) all.push_back(stage.start(kJudged, how, local));
      for (std::size_t i = 0; i < all.size(); ++i) {
        EXPECT_EQ(must(all[i].result<std::string>()), cases[i].second)
            << (local ? "local " : "ordinary ") << cases[i].first;
      }
    }
  });
}

struct Expected {
  Task<std::string> run(Context& ctx, std::string how) {
    ActivityOptions once;
    once.retry = RetryPolicy{.maximum_attempts = 1};
    LocalActivityOptions once_here;
    once_here.retry = once.retry;
    std::string text;
    try {
      co_await ctx.execute(kFails, how, once);
    } catch (const ActivityError& failure) {
      text = find_application_error(failure)->benign() ? "benign" : "serious";
    }
    try {
      co_await ctx.start_local(kFails, how, once_here);
    } catch (const ActivityError& failure) {
      text += find_application_error(failure)->benign() ? ", benign" : ", serious";
    }
    const ApplicationError end{text};
    throw how == "benign" ? end.as_benign() : end;
  }
};
const Definition<Expected> kExpected{"Expected", run(&Expected::run)};

// The number at the end of the line that begins with `series`; 0: there is none.
double counted(const PrometheusMetrics& metrics, const std::string& series) {
  const std::string text = "\n" + metrics.text();
  const auto at = text.find("\n" + series);
  if (at == std::string::npos) return 0;
  const auto end = text.find('\n', at + 1);
  return std::stod(text.substr(text.rfind(' ', end) + 1));
}

TEST(ActivityFailures, ThatAreExpectedRaiseNoAlarm) {
  NEEDS_SERVER();
  for (const std::string how : {"benign", "serious"}) {
    SCOPED_TRACE(how);
    const auto metrics = std::make_shared<PrometheusMetrics>();
    const auto lines = std::make_shared<Lines>(LogLevel::kDebug);
    Stage stage{connect({.metrics = metrics}), 1'000};
    stage.options.log = Logger{lines};
    stage.runs(kExpected).does(kFails, [](ActivityContext&, const std::string& kind) {
      const ApplicationError error{"it is " + kind};
      throw kind == "benign" ? error.as_benign() : error;
    });
    stage.start_worker();
    const auto failed = stage.start(kExpected, how).result<std::string>();
    ASSERT_FALSE(failed);
    ASSERT_NE(failed.error().application_error(), nullptr) << failed.error().text();
    EXPECT_EQ(failed.error().application_error()->message(), how + ", " + how);
    stage.worker().shutdown();
    const int alarms = how == "benign" ? 0 : 1;
    EXPECT_TRUE(lines->tell("activity failed: it is " + how)) << lines->text();
    EXPECT_EQ(lines->times("warning: activity failed"), alarms) << lines->text();
    for (const std::string name :
         {"activity_execution_failed", "local_activity_execution_failed", "workflow_failed"}) {
      EXPECT_EQ(counted(*metrics, "temporal_" + name + "_total{"), alarms) << name << "\n"
                                                                           << metrics->text();
    }
  }
}

}  // namespace
}  // namespace tempora::behaviour
