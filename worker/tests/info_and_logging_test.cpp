// What a workflow knows and tells of itself: log lines, warnings, details for people, the advice to
// continue as new.
#include <temporal/api/enums/v1/event_type.pb.h>
#include <temporal/api/history/v1/message.pb.h>
#include <temporal/api/sdk/v1/workflow_metadata.pb.h>

#include <algorithm>
#include <peers.hpp>

#include "lines.hpp"
#include "stage.hpp"

namespace tempora::behaviour {
namespace {

namespace enums = temporal::api::enums::v1;

struct Talker {
  bool done = false;
  Task<void> run(Context& ctx) {
    ctx.log().info("first step");
    co_await ctx.sleep(20ms);
    ctx.log().info("second step");
    co_await ctx.wait_until([this] { return done; });
    ctx.log().info("third step");
  }
  void finish(Context& ctx) {
    ctx.log().info("told to finish");
    done = true;
  }
  bool ended() const { return done; }
};
const Definition<Talker> kTalker{"Talker", run(&Talker::run), signal("finish", &Talker::finish),
                                 query("ended", &Talker::ended)};

// With the cache off every task replays what came before it, and so does the query after the end.
TEST(WorkflowLogs, SayEverythingOnceHoweverOftenItIsReplayed) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    const auto lines = std::make_shared<Lines>(LogLevel::kInfo);
    stage.options.log = Logger{lines};
    stage.runs(kTalker);
    stage.start_worker();
    const auto handle = stage.start(kTalker);
    EXPECT_FALSE(must(handle.query<bool>("ended")));
    stage.wait_for_event(handle, enums::EVENT_TYPE_TIMER_FIRED);
    must(handle.signal("finish"));
    must(handle.result<void>());
    stage.kill_worker();
    stage.start_worker();
    EXPECT_TRUE(query_after_kill<bool>(handle, "ended"));
    for (const char* line : {"first step", "second step", "told to finish", "third step"})
      EXPECT_EQ(lines->times(line), 1) << line << "\n" << lines->text();
    EXPECT_TRUE(lines->tell("WorkflowType=Talker WorkflowID=" + handle.id() + " RunID="))
        << lines->text();
  });
}

struct Hasty {
  bool done = false;
  Task<void> run(Context& ctx, bool patient) {
    co_await ctx.wait_until([this] { return done; });
    if (patient) co_await ctx.wait_until([&ctx] { return ctx.all_handlers_finished(); });
  }
  Task<void> slow(Context& ctx) {
    done = true;
    co_await ctx.sleep(50ms);
  }
};
const Definition<Hasty> kHasty{"Hasty", run(&Hasty::run), signal("slow", &Hasty::slow)};

TEST(WorkflowLogs, WarnOfHandlersThatTheEndCutsOff) {
  NEEDS_SERVER();
  for (const bool patient : {false, true}) {
    with_each_cache([patient](Stage& stage) {
      const auto lines = std::make_shared<Lines>();
      stage.options.log = Logger{lines};
      stage.runs(kHasty);
      stage.start_worker();
      const auto handle = stage.start(kHasty, patient);
      must(handle.signal("slow"));
      must(handle.result<void>());
      stage.worker().shutdown();
      EXPECT_EQ(lines->times("[TMPRL1102] the workflow ended while 1 of its handlers"),
                patient ? 0 : 1)
          << lines->text();
    });
  }
}

struct Described {
  bool done = false;
  Task<void> run(Context& ctx) {
    ctx.set_current_details("waiting for **nobody**");
    co_await ctx.sleep(20ms);
    ctx.set_current_details("waiting for *somebody*");
    co_await ctx.wait_until([this] { return done; });
    ctx.set_current_details("over");
  }
  void finish(Context&) { done = true; }
  bool ended() const { return done; }
};
const Definition<Described> kDescribed{"Described", run(&Described::run),
                                       signal("finish", &Described::finish, "ends it"),
                                       query("ended", &Described::ended, "is it over")};

TEST(WorkflowDetails, AreWhatTheRunSaidLast) {
  NEEDS_SERVER();
  using Metadata = temporal::api::sdk::v1::WorkflowMetadata;
  with_each_cache([](Stage& stage) {
    stage.runs(kDescribed);
    stage.start_worker();
    const auto handle = stage.start(kDescribed);
    const auto told = [&] { return must(handle.query<Metadata>("__temporal_workflow_metadata")); };
    stage.wait_for_event(handle, enums::EVENT_TYPE_TIMER_FIRED);
    const Metadata open = told();
    EXPECT_EQ(open.current_details(), "waiting for *somebody*");
    EXPECT_EQ(open.definition().type(), "Described");
    ASSERT_EQ(open.definition().signal_definitions_size(), 1);
    EXPECT_EQ(open.definition().signal_definitions(0).name(), "finish");
    EXPECT_EQ(open.definition().signal_definitions(0).description(), "ends it");
    EXPECT_TRUE(std::ranges::any_of(open.definition().query_definitions(), [](const auto& query) {
      return query.name() == "ended" && query.description() == "is it over";
    }));
    must(handle.signal("finish"));
    must(handle.result<void>());
    EXPECT_EQ(told().current_details(), "over");
  });
}

const ActivityType<Void, Void> kNothing{"nothing",
                                        {.start_to_close = 10s, .summary = "does nothing"}};

struct Summarised {
  Task<void> run(Context& ctx) {
    co_await ctx.execute(kNothing);
    co_await ctx.timer(10ms, {.summary = "a short rest"});
  }
};
const Definition<Summarised> kSummarised{"Summarised", run(&Summarised::run)};

TEST(Summaries, OfRunActivityAndTimerAreInTheHistory) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kSummarised).does(kNothing, [](ActivityContext&, const Void&) { return Void{}; });
    stage.start_worker();
    StartOptions how = stage.start_options();
    how.summary = "a test";
    how.details = "with *details*";
    const auto handle = stage.start_with(kSummarised, how);
    must(handle.result<void>());
    std::map<int, std::string> summaries;
    std::string details;
    for (const auto& event : must(handle.history())->events()) {
      const auto& data = event.user_metadata();
      if (data.has_summary())
        summaries[event.event_type()] = PayloadCodec<std::string>::decode(data.summary());
      if (data.has_details()) details = PayloadCodec<std::string>::decode(data.details());
    }
    EXPECT_EQ(summaries[enums::EVENT_TYPE_WORKFLOW_EXECUTION_STARTED], "a test");
    EXPECT_EQ(summaries[enums::EVENT_TYPE_ACTIVITY_TASK_SCHEDULED], "does nothing");
    EXPECT_EQ(summaries[enums::EVENT_TYPE_TIMER_STARTED], "a short rest");
    EXPECT_EQ(details, "with *details*");
  });
}

struct Grows {
  int taken = 0;
  Task<std::string> run(Context& ctx, int runs_before) {
    const bool at_first = ctx.info().suggest_continue_as_new;
    if (runs_before > 0) co_return at_first ? "still too long" : "short again";
    co_await ctx.wait_until([&ctx] { return ctx.info().suggest_continue_as_new; });
    if (at_first || taken < 3) co_return "too early";
    if (ctx.info().history_size_bytes < 4'000'000) co_return "its size is not known";
    ctx.continue_as_new(runs_before + 1);
  }
  void take(Context&, std::string) { ++taken; }
};
const Definition<Grows> kGrows{"Grows", run(&Grows::run), signal("take", &Grows::take)};

// The server advises it from 4 MiB of history on, or from 4,096 events.
TEST(LongHistories, AreAdvisedToContinueAsNew) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kGrows);
    stage.start_worker();
    const int none = 0;
    const auto handle = stage.start(kGrows, none);
    stage.wait_for_event(handle, enums::EVENT_TYPE_WORKFLOW_TASK_COMPLETED);
    // What the server knows lags by an event; the last ones may find the next run, or its end.
    for (int i = 0; i < 6; ++i) (void)handle.signal("take", std::string(1'200'000, 'x'));
    EXPECT_EQ(must(handle.result<std::string>()), "short again");
  });
}

}  // namespace
}  // namespace tempora::behaviour
