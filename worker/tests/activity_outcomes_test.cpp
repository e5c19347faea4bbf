// How an activity can end, and what its workflow sees of it.
#include <temporal/api/enums/v1/event_type.pb.h>

#include <atomic>
#include <peers.hpp>
#include <thread>

#include "stage.hpp"

namespace tempora::behaviour {
namespace {

struct Boom : std::runtime_error {
  using std::runtime_error::runtime_error;
};

const ActivityOptions kQuick{.start_to_close = 10s, .retry = RetryPolicy{.initial_interval = 50ms}};
const ActivityType<std::string, std::string> kEcho{"echo", kQuick};
const ActivityType<Void, void> kNothing{"nothing", kQuick};
const ActivityType<int, int> kFailsUntil{"fails_until", kQuick};
const ActivityType<std::string, std::string> kRefuses{"refuses", kQuick};
const ActivityType<std::string, std::string> kThrows{
    "throws", {.start_to_close = 10s, .retry = RetryPolicy{.maximum_attempts = 1}}};
const ActivityType<std::string, std::string> kUnknown{
    "nobody_knows_it", {.start_to_close = 10s, .retry = RetryPolicy{.maximum_attempts = 1}}};
const ActivityType<std::string, std::string> kLarge{"large", kQuick};

// Calls the activity that its input names and returns what came of it, as text.
struct Caller {
  Task<std::string> run(Context& ctx, std::string what);
};

std::string told(const Failure& failure) {
  const ApplicationError* error = find_application_error(failure);
  if (const auto* timeout = dynamic_cast<const TimeoutError*>(failure.cause())) {
    return "timeout " + std::to_string(static_cast<int>(timeout->timeout_type()));
  }
  if (error == nullptr) return std::string{"other: "} + failure.what();
  return error->type() + "/" + error->message() + "/" +
         (error->non_retryable() ? "final" : "retryable") + "/" +
         error->detail<std::string>().value_or("-");
}

Task<std::string> Caller::run(Context& ctx, std::string what) {
  try {
    const std::string text = "hello";
    if (what == "echo") co_return co_await ctx.execute(kEcho, text);
    if (what == "refuses") co_return co_await ctx.execute(kRefuses, text);
    if (what == "throws") co_return co_await ctx.execute(kThrows, text);
    if (what == "unknown") co_return co_await ctx.execute(kUnknown, text);
    if (what == "large") co_return co_await ctx.execute(kLarge, text);
    if (what == "nothing") {
      co_await ctx.execute(kNothing);
      co_return "done";
    }
    if (what == "third") {
      const int attempts = 3;
      const int taken = co_await ctx.execute(kFailsUntil, attempts);
      co_return std::to_string(taken);
    }
    co_return "?";
  } catch (const ActivityError& failure) {
    co_return told(failure);
  }
}

const Definition<Caller> kCaller{"Caller", run(&Caller::run)};

TEST(Activities, EndAsTheirWorkflowSeesIt) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kCaller)
        .does(kEcho, [](ActivityContext&, const std::string& text) { return text + "!"; })
        .does(kNothing, [](ActivityContext&, const Void&) {})
        .does(kFailsUntil,
              [](ActivityContext& ctx, const int& attempts) {
                if (ctx.info().attempt < attempts) throw Boom{"not yet"};
                return ctx.info().attempt;
              })
        .does(kRefuses,
              [](ActivityContext&, const std::string&) -> std::string {
                throw ApplicationError{"no", "Refused", true, std::string{"because"}};
              })
        .does(kThrows,
              [](ActivityContext&, const std::string&) -> std::string { throw Boom{"bang"}; })
        .does(kLarge,
              [](ActivityContext&, const std::string&) { return std::string(3'000'000, 'x'); });
    stage.start_worker();
    const std::vector<std::pair<std::string, std::string>> cases = {
        {"echo", "hello!"},
        {"nothing", "done"},
        {"third", "3"},
        {"refuses", "Refused/no/final/because"},
    };
    std::vector<WorkflowHandle> handles;
    for (const auto& [what, expected] : cases) handles.push_back(stage.start(kCaller, what));
    const WorkflowHandle throws = stage.start(kCaller, std::string{"throws"});
    const WorkflowHandle unknown = stage.start(kCaller, std::string{"unknown"});
    const WorkflowHandle large = stage.start(kCaller, std::string{"large"});
    for (std::size_t i = 0; i < cases.size(); ++i) {
      EXPECT_EQ(must(handles[i].result<std::string>()), cases[i].second) << cases[i].first;
    }
    EXPECT_TRUE(must(throws.result<std::string>()).find("Boom/bang/retryable") != std::string::npos)
        << must(throws.result<std::string>());
    EXPECT_TRUE(must(unknown.result<std::string>()).starts_with("NotFoundError/"))
        << must(unknown.result<std::string>());
    EXPECT_TRUE(must(large.result<std::string>()).starts_with("PayloadsTooLarge/"))
        << must(large.result<std::string>());
  });
}

const ActivityType<int, void> kSleeper{"sleeper"};

struct TimedOut {
  Task<std::string> run(Context& ctx, std::string which);
};

Task<std::string> TimedOut::run(Context& ctx, std::string which) {
  ActivityOptions options{.retry = RetryPolicy{.maximum_attempts = 1}};
  if (which == "start_to_close") options.start_to_close = 1s;
  if (which == "schedule_to_close") {
    options.schedule_to_close = 1s;
    options.retry = RetryPolicy{.initial_interval = 100ms};
  }
  if (which == "schedule_to_start") {
    options.schedule_to_start = 1s;
    options.start_to_close = 10s;
    options.task_queue = ctx.info().task_queue + "-nobody-polls-it";
  }
  if (which == "heartbeat") {
    options.start_to_close = 20s;
    options.heartbeat = 1s;
  }
  const int nothing = 0;
  try {
    co_await ctx.execute(kSleeper, nothing, options);
    co_return "no time-out";
  } catch (const ActivityError& failure) {
    co_return told(failure);
  }
}

const Definition<TimedOut> kTimedOut{"TimedOut", run(&TimedOut::run)};

TEST(Activities, AllFourTimeOutsReachTheWorkflow) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kTimedOut).does(kSleeper, [](ActivityContext& ctx, const int&) {
      ctx.wait_cancelled(8s);  // the worker itself tells it that its time is over
      ctx.throw_if_cancelled();
    });
    stage.start_worker();
    const auto to_close = stage.start(kTimedOut, std::string{"start_to_close"});
    const auto total = stage.start(kTimedOut, std::string{"schedule_to_close"});
    const auto to_start = stage.start(kTimedOut, std::string{"schedule_to_start"});
    const auto heartbeat = stage.start(kTimedOut, std::string{"heartbeat"});
    EXPECT_EQ(must(to_close.result<std::string>()), "timeout 1");
    EXPECT_EQ(must(to_start.result<std::string>()), "timeout 2");
    EXPECT_EQ(must(total.result<std::string>()), "timeout 3");
    EXPECT_EQ(must(heartbeat.result<std::string>()), "timeout 4");
  });
}

const ActivityType<int, int> kResumes{
    "resumes",
    {.start_to_close = 20s, .heartbeat = 5s, .retry = RetryPolicy{.initial_interval = 50ms}}};

struct Resuming {
  Task<int> run(Context& ctx) {
    const int last = 5;
    co_return co_await ctx.execute(kResumes, last);
  }
};

const Definition<Resuming> kResuming{"Resuming", run(&Resuming::run)};

TEST(Activities, TheNextAttemptReadsTheLastHeartbeatEvenIfItWasHeldBack) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kResuming).does(kResumes, [](ActivityContext& ctx, const int& last) {
      const int done = ctx.heartbeat_details<int>().value_or(0);
      if (done == last) return done;
      ctx.heartbeat(done);      // sent at once
      ctx.heartbeat(done + 1);  // held back by the throttle
      throw Boom{"again"};
    });
    stage.start_worker();
    EXPECT_EQ(must(stage.start(kResuming).result<int>()), 5);
  });
}

}  // namespace
}  // namespace tempora::behaviour
