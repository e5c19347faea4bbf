#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <tempora/definition.hpp>
#include <tempora/replayer.hpp>

#include "testing/history_builder.hpp"

namespace tempora {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using testing::HistoryBuilder;

const ActivityType<std::string, std::string> kReserve{"reserve", {.start_to_close = 10s}};

struct Original {
  Task<std::string> run(Context& ctx, std::string name) {
    const std::string reserved = co_await ctx.execute(kReserve, name);
    co_await ctx.sleep(1s);
    co_return reserved;
  }
};
const Definition<Original> kOriginal{"Provision", run(&Original::run)};

// The same type, deliberately changed: it sleeps first.
struct Changed {
  Task<std::string> run(Context& ctx, std::string name) {
    co_await ctx.sleep(1s);
    co_return co_await ctx.execute(kReserve, name);
  }
};
const Definition<Changed> kChanged{"Provision", run(&Changed::run)};

struct Shortened {
  Task<std::string> run(Context&, std::string name) { co_return name; }
};
const Definition<Shortened> kShortened{"Provision", run(&Shortened::run)};

struct Lengthened {
  Task<std::string> run(Context& ctx, std::string name) {
    const auto timer = ctx.timer(1h);
    const std::string reserved = co_await ctx.execute(kReserve, name);
    co_await ctx.sleep(1s);
    co_return reserved;
  }
};
const Definition<Lengthened> kLengthened{"Provision", run(&Lengthened::run)};

HistoryBuilder recorded() {
  HistoryBuilder history;
  history.started("Provision", std::string{"alice"}).task_started().task_completed();
  history.activity_scheduled("1", "reserve").activity_completed(5, std::string{"10.0.0.1"});
  history.task_started().task_completed().timer_started("1").timer_fired(11, "1");
  history.task_started().task_completed().completed();
  return history;
}

template <class W>
ReplayError error_of(const Definition<W>& definition, const HistoryBuilder& history = recorded()) {
  WorkflowRegistry registry;
  registry.add(definition);
  const auto replayed = Replayer{registry}.replay(history.history());
  EXPECT_FALSE(replayed.has_value());
  return replayed.has_value() ? ReplayError{} : replayed.error();
}

TEST(Replayer, ARecordedHistoryReplays) {
  WorkflowRegistry registry;
  registry.add(kOriginal);
  const auto replayed = Replayer{registry}.replay(recorded().history());
  EXPECT_TRUE(replayed.has_value()) << replayed.error().message;
}

TEST(Replayer, EveryPrefixOfAHistoryReplays) {
  WorkflowRegistry registry;
  registry.add(kOriginal);
  for (int length = 1; length < recorded().last_id(); ++length) {
    HistoryBuilder prefix = recorded();
    prefix.drop_last(static_cast<int>(prefix.last_id()) - length);
    // A cut between a completion and its commands is no state that a server ever shows.
    const auto last = prefix.history().events(length - 1).event_type();
    if (last == temporal::api::enums::v1::EVENT_TYPE_WORKFLOW_TASK_COMPLETED) continue;
    const auto replayed = Replayer{registry}.replay(prefix.history());
    EXPECT_TRUE(replayed.has_value()) << length << ": " << replayed.error().message;
  }
}

TEST(Replayer, AChangedWorkflowIsReportedWithEventCommandAndPlace) {
  const ReplayError error = error_of(kChanged);
  EXPECT_TRUE(error.nondeterminism);
  EXPECT_EQ(error.event_id, 5);
  EXPECT_EQ(error.event_type, "ActivityTaskScheduled");
  EXPECT_EQ(error.command, "StartTimer timer_id \"1\"");
  EXPECT_EQ(error.workflow_type, "Provision");
  EXPECT_THAT(error.position, HasSubstr("replayer_test.cpp:"));
  EXPECT_THAT(error.message, HasSubstr("[TMPRL1100]"));
  EXPECT_THAT(error.message, HasSubstr("activity_type \"reserve\""));
}

TEST(Replayer, AWorkflowThatDoesLessIsReported) {
  const ReplayError error = error_of(kShortened);
  EXPECT_TRUE(error.nondeterminism);
  EXPECT_EQ(error.event_id, 5);
  EXPECT_EQ(error.command, "CompleteWorkflowExecution");
}

struct Hurried {
  Task<std::string> run(Context& ctx, std::string name) {
    co_return co_await ctx.execute(kReserve, name);
  }
};
const Definition<Hurried> kHurried{"Provision", run(&Hurried::run)};

TEST(Replayer, AnEndThatComesTooEarlyIsReportedWithTheLastPlaceBeforeIt) {
  const ReplayError error = error_of(kHurried);
  EXPECT_EQ(error.event_type, "TimerStarted");
  EXPECT_EQ(error.command, "CompleteWorkflowExecution");
  EXPECT_THAT(error.position, HasSubstr("replayer_test.cpp:"));
}

TEST(Replayer, AWorkflowThatDoesMoreIsReported) {
  const ReplayError error = error_of(kLengthened);
  EXPECT_TRUE(error.nondeterminism);
  EXPECT_EQ(error.command, "StartTimer timer_id \"1\"");
}

struct Drawn {
  Task<std::string> run(Context& ctx, std::string name) {
    const int drawn = ctx.side_effect([] { return 7; });
    co_return name + std::to_string(drawn);
  }
};
const Definition<Drawn> kDrawn{"Drawn", run(&Drawn::run)};

TEST(Replayer, AnOpenTaskIsNotDone) {
  WorkflowRegistry registry;
  registry.add(kDrawn);
  HistoryBuilder history;
  history.started("Drawn", std::string{"a"}).task_started();
  const auto replayed = Replayer{registry}.replay(history.history());
  EXPECT_TRUE(replayed.has_value())
      << "its markers cannot be there yet: " << replayed.error().message;
  // What came before it is still compared.
  HistoryBuilder changed;
  changed.started("Provision", std::string{"alice"}).task_started().task_completed();
  changed.activity_scheduled("1", "reserve").activity_completed(5, std::string{"10.0.0.1"});
  changed.task_started();
  WorkflowRegistry lengthened;
  lengthened.add(kLengthened);
  EXPECT_FALSE(Replayer{lengthened}.replay(changed.history()).has_value());
}

struct Guarded {
  Task<std::string> run(Context& ctx, std::string name) {
    try {
      ctx.side_effect([] { return 7; });
    } catch (const std::exception&) {
      name += ", caught";
    }
    co_return name;
  }
};
const Definition<Guarded> kGuarded{"Drawn", run(&Guarded::run)};

TEST(Replayer, ACatchOfTheWorkflowsOwnHidesNoNondeterminism) {
  WorkflowRegistry registry;
  registry.add(kGuarded);
  HistoryBuilder history;
  history.started("Drawn", std::string{"a"}).task_started().task_completed().completed();
  const auto replayed = Replayer{registry}.replay(history.history());
  ASSERT_FALSE(replayed.has_value());
  EXPECT_EQ(replayed.error().command, "RecordMarker side effect 1");
}

struct Placed {
  Task<std::string> run(Context& ctx, std::string name) {
    co_await ctx.sleep(1s);
    co_return name;
  }
};
const Definition<Placed> kPlaced{"Placed", run(&Placed::run)};

// Commands something of its own before it lets the workflow begin.
struct Delays final : WorkflowInterceptor {
  Task<Payload> inbound(Context& ctx, InboundCall call, Next next) override {
    co_await ctx.sleep(1s);
    Task<Payload> rest = next(std::move(call));
    co_return co_await rest;
  }
};

HistoryBuilder placed(int timers) {
  HistoryBuilder history;
  history.started("Placed", std::string{"alice"}).task_started().task_completed();
  for (int i = 1; i <= timers; ++i) {
    const std::string id = std::to_string(i);
    history.timer_started(id).timer_fired(history.last_id(), id);
    history.task_started().task_completed();
  }
  history.completed();
  return history;
}

TEST(Replayer, AHistoryWithoutItsBeginningOrWithTwoIsRefused) {
  HistoryBuilder beheaded;
  beheaded.signaled("early").task_started().task_completed();
  EXPECT_THAT(error_of(kOriginal, beheaded).message, HasSubstr("WorkflowExecutionStarted"));
  HistoryBuilder updated;
  auto& request = *updated.add(testing::enums::EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ADMITTED)
                       .mutable_workflow_execution_update_admitted_event_attributes()
                       ->mutable_request();
  request.mutable_meta()->set_update_id("u1");
  request.mutable_input()->set_name("add");
  updated.task_started().task_completed();
  EXPECT_THAT(error_of(kOriginal, updated).message, HasSubstr("WorkflowExecutionStarted"));
  HistoryBuilder doubled;
  doubled.started("Provision", std::string{"alice"}).task_started().task_completed();
  doubled.activity_scheduled("1", "reserve");
  doubled.started("Provision", std::string{"bob"}).task_started().task_completed();
  EXPECT_THAT(error_of(kOriginal, doubled).message, HasSubstr("begins a run that has begun"));
}

TEST(Replayer, TakesTheInterceptorsOfTheWorkerThatRecorded) {
  WorkflowRegistry registry;
  registry.add(kPlaced);
  ReplayerOptions options;
  options.interceptors = {[] { return std::make_unique<Delays>(); }};
  const auto replayed = Replayer{registry, options}.replay(placed(2).history());
  EXPECT_TRUE(replayed.has_value()) << replayed.error().message;
  EXPECT_FALSE(Replayer{registry}.replay(placed(2).history()).has_value());
  EXPECT_FALSE((Replayer{registry, options}.replay(placed(1).history())).has_value());
}

// Sleeps only where it is at home.
struct AtHome {
  Task<void> run(Context& ctx) {
    if (ctx.info().namespace_ == "home") co_await ctx.sleep(1s);
  }
};
const Definition<AtHome> kAtHome{"Placed", run(&AtHome::run)};

TEST(Replayer, TakesTheNamespaceOfTheWorkerThatRecorded) {
  WorkflowRegistry registry;
  registry.add(kAtHome);
  const auto home = Replayer{registry, {.namespace_ = "home"}}.replay(placed(1).history());
  EXPECT_TRUE(home.has_value()) << home.error().message;
  EXPECT_FALSE(Replayer{registry}.replay(placed(1).history()).has_value());
}

TEST(Replayer, DecodesAHistoryThatIsStillEncoded) {
  WorkflowRegistry registry;
  registry.add(kPlaced);
  ReplayerOptions options;
  options.codecs.codecs = {std::make_shared<AesGcmCodec>(
      std::map<std::string, std::string>{{"a", std::string(32, 'k')}}, "a")};
  auto encoded = placed(1).history();
  encode_payloads(encoded, options.codecs);
  const auto replayed = Replayer{registry, options}.replay(encoded);
  EXPECT_TRUE(replayed.has_value()) << replayed.error().message;
  EXPECT_FALSE(Replayer{registry}.replay(encoded).has_value()) << "nobody can read the argument";
}

constexpr const char* kExport = R"({"events":[
  {"eventId":"1","eventTime":"2026-01-02T03:04:05.123456789Z","eventType":"EVENT_TYPE_WORKFLOW_EXECUTION_STARTED",
   "someNewField":{"a":1},
   "workflowExecutionStartedEventAttributes":{"workflowType":{"name":"Provision"},
     "taskQueue":{"name":"q","kind":"TASK_QUEUE_KIND_NORMAL"},"workflowTaskTimeout":"10s",
     "input":{"payloads":[{"metadata":{"encoding":"anNvbi9wbGFpbg=="},"data":"ImFsaWNlIg=="}]},
     "originalExecutionRunId":"r1","firstExecutionRunId":"r1","attempt":1}},
  {"eventId":"2","eventTime":"2026-01-02T03:04:05Z","eventType":"WorkflowTaskScheduled",
   "workflowTaskScheduledEventAttributes":{"taskQueue":{"name":"q","kind":"Normal"},"attempt":1}},
  {"eventId":3,"eventTime":"2026-01-02T03:04:06Z","eventType":"WorkflowTaskStarted",
   "workflowTaskStartedEventAttributes":{"scheduledEventId":"2"}},
  {"eventId":"4","eventTime":"2026-01-02T03:04:07Z","eventType":"WorkflowTaskCompleted",
   "workflowTaskCompletedEventAttributes":{"scheduledEventId":"2","startedEventId":"3","binaryChecksum":"x"}},
  {"eventId":"5","eventTime":"2026-01-02T03:04:08Z","eventType":"ActivityTaskScheduled",
   "activityTaskScheduledEventAttributes":{"activityId":"1","activityType":{"name":"reserve"},
     "startToCloseTimeout":"0.500s"}}]})";

TEST(Replayer, ReadsExportsInOldAndNewSpelling) {
  WorkflowRegistry registry;
  registry.add(kOriginal);
  const Replayer replayer{registry};
  const auto replayed = replayer.replay_json(kExport);
  EXPECT_TRUE(replayed.has_value()) << replayed.error().message;
  const auto history = parse_history(kExport);
  ASSERT_TRUE(history.has_value()) << history.error();
  EXPECT_EQ(history->events(1).event_type(),
            temporal::api::enums::v1::EVENT_TYPE_WORKFLOW_TASK_SCHEDULED);
  EXPECT_EQ(history->events(1).workflow_task_scheduled_event_attributes().task_queue().kind(),
            temporal::api::enums::v1::TASK_QUEUE_KIND_NORMAL);
  const std::string text = kExport;
  const std::string bare = text.substr(text.find('['), text.rfind(']') - text.find('[') + 1);
  EXPECT_TRUE(replayer.replay_json(bare).has_value());
  EXPECT_THAT(replayer.replay_json("{").error().message, HasSubstr("not JSON"));
  EXPECT_THAT(replayer.replay_json("{}").error().message, HasSubstr("events"));
}

}  // namespace
}  // namespace tempora
