// The client against a real server. No worker runs here: what a workflow does is tested with the
// worker.
#include <gtest/gtest.h>
#include <temporal/api/history/v1/message.pb.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <peers.hpp>
#include <set>
#include <tempora/client.hpp>
#include <tempora/schedule.hpp>
#include <thread>

#include "client_core.hpp"

namespace tempora {
namespace {

using namespace std::chrono_literals;

// Visibility is eventually consistent, and the server has no event to wait on.
bool eventually(const std::function<bool()>& holds) {
  for (int i = 0; i < 300; ++i) {
    if (holds()) return true;
    std::this_thread::sleep_for(100ms);
  }
  return false;
}

class ClientServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto address = addrflow::testing::peer("TEMPORAL_ADDRESS");
    if (!address) GTEST_SKIP() << "TEMPORAL_ADDRESS is not set";
    connection.address = *address;
    connection.check_namespace = true;
    auto connected = Client::connect(connection);
    ASSERT_TRUE(connected) << connected.error().text();
    client = std::move(*connected);
    options.id = "client-test/" + detail::random_uuid();
    options.task_queue = "nobody-" + detail::random_uuid();
  }

  void TearDown() override {
    if (client) (void)client->handle(options.id).terminate("test is over");
  }

  ConnectionOptions connection;
  std::optional<Client> client;
  StartOptions options;
};

TEST_F(ClientServerTest, ConnectTellsWhatTheServerCanDo) {
  EXPECT_FALSE(client->server().version.empty());
  EXPECT_TRUE(client->server().internal_error_differentiation);
  EXPECT_TRUE(client->server().sdk_metadata);
  EXPECT_NE(client->identity().find('@'), std::string::npos);
}

TEST_F(ClientServerTest, AMissingNamespaceIsFoundWhenConnecting) {
  connection.namespace_ = "no-such-namespace";
  const auto connected = Client::connect(connection);
  ASSERT_FALSE(connected);
  EXPECT_EQ(connected.error().code, ErrorCode::kNamespaceNotFound) << connected.error().text();
}

TEST_F(ClientServerTest, AServerThatIsNotThereIsAnErrorWithinTheTimeOut) {
  connection.address = "127.0.0.1:1";
  connection.connect_timeout = 1s;
  const auto began = std::chrono::steady_clock::now();
  const auto connected = Client::connect(connection);
  ASSERT_FALSE(connected);
  EXPECT_TRUE(connected.error().retryable) << connected.error().text();
  EXPECT_LT(std::chrono::steady_clock::now() - began, 4500ms) << "5 s unless it is set";
}

TEST_F(ClientServerTest, WhatCannotHaveLeftIsNotInDoubt) {
  connection.address = "127.0.0.1:1";
  connection.call_budget = 5s;
  const auto lazy = Client::connect_lazily(connection);
  ASSERT_TRUE(lazy);
  const auto signalled = lazy->handle(options.id).signal("s");
  ASSERT_FALSE(signalled);
  EXPECT_EQ(signalled.error().code, ErrorCode::kUnavailable) << signalled.error().text();
  EXPECT_FALSE(signalled.error().in_doubt) << signalled.error().text();
}

TEST_F(ClientServerTest, StartsDescribesAndTerminates) {
  options.memo["note"] = PayloadCodec<std::string>::encode("hello");
  options.priority = {.key = 2, .fairness_key = "tenant", .fairness_weight = 1};
  options.execution_timeout = 1h;
  options.summary = "a test";
  const auto handle = client->start("Sleeper", options, std::string{"input"});
  ASSERT_TRUE(handle) << handle.error().text();
  EXPECT_TRUE(handle->started());

  const auto description = handle->describe();
  ASSERT_TRUE(description) << description.error().text();
  EXPECT_EQ(description->run_id, handle->started_run_id());
  EXPECT_EQ(description->type, "Sleeper");
  EXPECT_EQ(description->task_queue, options.task_queue);
  EXPECT_EQ(description->status, WorkflowStatus::kRunning);
  EXPECT_EQ(PayloadCodec<std::string>::decode(description->memo.at("note")), "hello");

  const auto limited = handle->result<int>({.limit = 300ms});
  ASSERT_FALSE(limited);
  EXPECT_EQ(limited.error().code, ErrorCode::kTimeLimit);

  ASSERT_TRUE(handle->terminate("enough"));
  const auto result = handle->result<int>();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kWorkflowTerminated);
  EXPECT_EQ(result.error().message, "enough");
  EXPECT_EQ(handle->terminate("again").error().code, ErrorCode::kNotFound);
}

TEST_F(ClientServerTest, TheSameRequestIdGivesTheSameRunAnotherIsRefused) {
  options.request_id = detail::random_uuid();
  const auto first = client->start("Sleeper", options);
  const auto again = client->start("Sleeper", options);
  ASSERT_TRUE(first && again);
  EXPECT_EQ(first->started_run_id(), again->started_run_id());

  options.request_id.clear();
  const auto refused = client->start("Sleeper", options);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kAlreadyStarted) << refused.error().text();
  EXPECT_EQ(refused.error().run_id, first->started_run_id());

  options.conflict = IdConflictPolicy::kUseExisting;
  const auto existing = client->start("Sleeper", options);
  ASSERT_TRUE(existing) << existing.error().text();
  EXPECT_FALSE(existing->started());
  EXPECT_EQ(existing->started_run_id(), first->started_run_id());

  options.conflict = IdConflictPolicy::kTerminateExisting;
  const auto replaced = client->start("Sleeper", options);
  ASSERT_TRUE(replaced) << replaced.error().text();
  EXPECT_NE(replaced->started_run_id(), first->started_run_id());
}

TEST_F(ClientServerTest, AClosedIdIsNotUsedAgainIfThePolicySaysSo) {
  ASSERT_TRUE(client->start("Sleeper", options));
  ASSERT_TRUE(client->handle(options.id).terminate("end"));
  options.reuse = IdReusePolicy::kRejectDuplicate;
  const auto refused = client->start("Sleeper", options);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kAlreadyStarted) << refused.error().text();
}

TEST_F(ClientServerTest, AHandleOfAStartDoesNotReachALaterChain) {
  const auto first = client->start("Sleeper", options);
  ASSERT_TRUE(first && first->terminate("end"));
  ASSERT_TRUE(client->start("Sleeper", options));
  EXPECT_EQ(first->terminate("late").error().code, ErrorCode::kNotFound);
  EXPECT_EQ(client->handle(options.id).describe()->status, WorkflowStatus::kRunning);
}

TEST_F(ClientServerTest, SignalsAndHistory) {
  const auto handle = client->signal_with_start("Sleeper", options, encode_all(1), "first", 10);
  ASSERT_TRUE(handle) << handle.error().text();
  const auto second = client->signal_with_start("Sleeper", options, encode_all(1), "second", 20);
  ASSERT_TRUE(second) << second.error().text();
  EXPECT_EQ(second->started_run_id(), handle->started_run_id());
  ASSERT_TRUE(handle->signal("third", std::string{"x"}));

  const auto history = handle->history();
  ASSERT_TRUE(history) << history.error().text();
  std::vector<std::string> signals;
  for (const auto& event : (*history)->events()) {
    if (event.has_workflow_execution_signaled_event_attributes()) {
      signals.push_back(event.workflow_execution_signaled_event_attributes().signal_name());
    }
  }
  EXPECT_EQ(signals, (std::vector<std::string>{"first", "second", "third"}));
  const auto json = handle->history_json();
  ASSERT_TRUE(json);
  EXPECT_NE(json->find("\"EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED\""), std::string::npos);

  ASSERT_TRUE(handle->terminate("end"));
  const auto late = handle->signal("late");
  EXPECT_EQ(late.error().code, ErrorCode::kNotFound);
}

TEST_F(ClientServerTest, CancelMayBeRepeated) {
  const auto handle = client->start("Sleeper", options);
  ASSERT_TRUE(handle);
  EXPECT_TRUE(handle->cancel("please"));
  EXPECT_TRUE(handle->cancel("please"));
}

TEST_F(ClientServerTest, AnOpenRunThatIsRemovedIsGone) {
  const auto handle = client->start("Sleeper", options);
  ASSERT_TRUE(handle);
  const auto removed = handle->remove();
  ASSERT_TRUE(removed) << removed.error().text();
  EXPECT_TRUE(eventually([&] {
    const auto described = handle->describe();
    return !described && described.error().code == ErrorCode::kNotFound;
  }));
}

TEST_F(ClientServerTest, ANotExistingWorkflowIsNotFound) {
  const auto handle = client->handle(options.id);
  EXPECT_EQ(handle.describe().error().code, ErrorCode::kNotFound);
  EXPECT_EQ(handle.signal("s").error().code, ErrorCode::kNotFound);
  EXPECT_EQ(handle.query<int>("q").error().code, ErrorCode::kNotFound);
  EXPECT_EQ(handle.update<int>("u", {}).error().code, ErrorCode::kNotFound);
  EXPECT_FALSE(handle.signal("s").error().in_doubt);
}

TEST_F(ClientServerTest, AnUpdateThatNobodyTakesEndsAtTheLimitInDoubt) {
  ASSERT_TRUE(client->start("Sleeper", options));
  const auto answer = client->handle(options.id).update<int>("u", {.limit = 1s});
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, ErrorCode::kTimeLimit) << answer.error().text();
  EXPECT_TRUE(answer.error().in_doubt);
}

TEST_F(ClientServerTest, UpdateWithStartSaysWhichOperationIsToBlame) {
  ASSERT_TRUE(client->start("Sleeper", options));
  options.conflict = IdConflictPolicy::kFail;
  const auto answer =
      client->update_with_start<int>("Sleeper", options, encode_all(1), "u", {.limit = 5s}, 2);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, ErrorCode::kAlreadyStarted) << answer.error().text();
  ASSERT_EQ(answer.error().operations.size(), 2u);
  EXPECT_FALSE(answer.error().operations[0].innocent);
  EXPECT_TRUE(answer.error().operations[1].innocent);
}

TEST_F(ClientServerTest, TooLargeAnInputIsRefusedWithoutRetries) {
  const auto refused = client->start("Sleeper", options, std::string(std::size_t{3} << 20, 'x'));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kMessageTooLarge) << refused.error().text();
  EXPECT_NE(refused.error().message.find("input"), std::string::npos) << refused.error().text();
  EXPECT_FALSE(refused.error().retryable);
  const auto larger = client->start("Sleeper", options, std::string(std::size_t{5} << 20, 'x'));
  ASSERT_FALSE(larger);
  EXPECT_EQ(larger.error().code, ErrorCode::kMessageTooLarge) << larger.error().text();
  EXPECT_FALSE(larger.error().retryable);
}

TEST_F(ClientServerTest, ListsAndCounts) {
  ASSERT_TRUE(client->start("Sleeper", options));
  const std::string query = "WorkflowId = '" + options.id + "'";
  EXPECT_TRUE(eventually([&] {
    const auto page = client->list(query);
    return page && page->workflows.size() == 1 && page->workflows[0].id == options.id;
  }));
  const auto count = client->count(query);
  ASSERT_TRUE(count) << count.error().text();
  EXPECT_EQ(count->count, 1);
  EXPECT_EQ(client->list("nonsense ===").error().code, ErrorCode::kInvalidArgument);
}

TEST_F(ClientServerTest, VisitsEachAndCountsByGroups) {
  std::set<std::string> started;
  for (int i = 0; i < 3; ++i) {
    StartOptions mine = options;
    mine.id += "/" + std::to_string(i);
    ASSERT_TRUE(client->start("Sleeper", mine));
    started.insert(mine.id);
  }
  ASSERT_TRUE(client->handle(*started.begin()).terminate("one of three"));
  const std::string query = "TaskQueue = '" + options.task_queue + "'";
  const std::map<std::string, std::int64_t> expected{{"Running", 2}, {"Terminated", 1}};
  EXPECT_TRUE(eventually([&] {
    std::map<std::string, std::int64_t> groups;
    const auto count = client->count(query + " GROUP BY ExecutionStatus");
    if (!count) return false;
    for (const auto& group : count->groups)
      groups[PayloadCodec<std::string>::decode(group.values.at(0))] = group.count;
    return count->count == 3 && groups == expected;
  }));

  std::set<std::string> seen;
  ASSERT_TRUE(client->for_each(query, [&](const WorkflowDescription& workflow) {
    seen.insert(workflow.id);
    return true;
  }));
  EXPECT_EQ(seen, started);
  int visits = 0;
  ASSERT_TRUE(client->for_each(query, [&](const WorkflowDescription&) { return ++visits < 2; }));
  EXPECT_EQ(visits, 2);
  for (const std::string& id : started) (void)client->handle(id).terminate("test is over");
}

TEST_F(ClientServerTest, SearchAttributesAreRegisteredOnce) {
  const std::map<std::string, SearchAttributeType> wanted{
      {"ClientTestKeyword", SearchAttributeType::kKeyword}};
  ASSERT_TRUE(client->add_search_attributes(wanted));
  ASSERT_TRUE(client->add_search_attributes(wanted));
  EXPECT_TRUE(eventually([&] {
    const auto known = client->list_search_attributes();
    return known && known->contains("ClientTestKeyword") &&
           known->at("ClientTestKeyword") == SearchAttributeType::kKeyword;
  }));
  const auto other =
      client->add_search_attributes({{"ClientTestKeyword", SearchAttributeType::kInt}});
  EXPECT_EQ(other.error().code, ErrorCode::kAlreadyExists);
}

TEST_F(ClientServerTest, SearchAttributesThatAreRemovedAreGone) {
  ASSERT_TRUE(client->add_search_attributes({{"ClientTestPassing", SearchAttributeType::kDouble}}));
  const auto listed = [&] {
    const auto known = client->list_search_attributes();
    return known && known->contains("ClientTestPassing");
  };
  ASSERT_TRUE(eventually(listed));
  const auto removed = client->remove_search_attributes({"ClientTestPassing"});
  ASSERT_TRUE(removed) << removed.error().text();
  EXPECT_TRUE(eventually([&] { return !listed(); }));
}

TEST_F(ClientServerTest, NamespacesAreRegisteredAndDescribed) {
  const std::string name = "client-test-" + detail::random_uuid();
  ASSERT_TRUE(client->register_namespace(name, 48h, "for a test"));
  EXPECT_EQ(client->register_namespace(name, 48h).error().code, ErrorCode::kAlreadyExists);
  const auto described = client->describe_namespace(name);
  ASSERT_TRUE(described) << described.error().text();
  EXPECT_EQ(described->retention, 48h);
  EXPECT_EQ(described->description, "for a test");
}

TEST_F(ClientServerTest, SchedulesLive) {
  const std::string id = "client-test/" + detail::random_uuid();
  const ScheduleClient schedules = client->schedules();
  Schedule schedule;
  schedule.workflow_type = "Sleeper";
  schedule.start = {.id = options.id, .task_queue = options.task_queue};
  schedule.spec.cron = {"0 3 * * *"};
  schedule.spec.calendars = {{.hour = "4-5", .day_of_week = "mon-fri"}};
  schedule.spec.intervals = {{.every = 1h, .phase = 10min}};
  schedule.spec.except = {{.hour = "4", .month = "12"}};
  schedule.note = "made";
  ASSERT_TRUE(schedules.create(id, schedule));
  const auto twice = schedules.create(id, schedule);
  EXPECT_EQ(twice.error().code, ErrorCode::kAlreadyExists) << twice.error().text();

  auto described = schedules.describe(id);
  ASSERT_TRUE(described) << described.error().text();
  EXPECT_EQ(described->schedule.spec().structured_calendar_size(), 2);
  EXPECT_EQ(described->schedule.spec().exclude_structured_calendar_size(), 1);
  EXPECT_EQ(described->schedule.policies().catchup_window().seconds(), 600);
  EXPECT_GT(described->info.future_action_times_size(), 0);

  ASSERT_TRUE(schedules.update(id, [](ScheduleProto& changed) {
    changed.mutable_spec()->clear_structured_calendar();
    changed.mutable_state()->set_notes("changed");
    return true;
  }));
  // A schedule is a workflow on the server: what is written shows soon, not at once.
  EXPECT_TRUE(eventually([&] {
    described = schedules.describe(id);
    return described && described->schedule.state().notes() == "changed";
  }));
  EXPECT_EQ(described->schedule.spec().structured_calendar_size(), 0);
  EXPECT_EQ(described->schedule.spec().interval_size(), 1);

  ASSERT_TRUE(schedules.pause(id, "stop"));
  EXPECT_TRUE(eventually([&] { return schedules.describe(id)->schedule.state().paused(); }));
  ASSERT_TRUE(schedules.unpause(id));
  EXPECT_TRUE(eventually([&] { return !schedules.describe(id)->schedule.state().paused(); }));

  ASSERT_TRUE(schedules.trigger(id));
  EXPECT_TRUE(eventually([&] { return schedules.describe(id)->info.recent_actions_size() == 1; }));
  described = schedules.describe(id);
  for (const auto& run : described->info.running_workflows()) {
    (void)client->handle(run.workflow_id()).terminate("test is over");
  }

  EXPECT_TRUE(eventually([&] {
    const auto all = schedules.list();
    return all && std::ranges::any_of(*all, [&](const auto& entry) { return entry.id == id; });
  }));
  ASSERT_TRUE(schedules.remove(id));
  EXPECT_EQ(schedules.describe(id).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(schedules.pause(id).error().code, ErrorCode::kNotFound);
}

TEST_F(ClientServerTest, SchedulesGiveBackWhatTheyWereMadeOf) {
  ASSERT_TRUE(
      client->add_search_attributes({{"ClientTestKeyword", SearchAttributeType::kKeyword}}));
  const std::string id = options.id + "/schedule";
  const ScheduleClient schedules = client->schedules();
  const TimePoint begin = std::chrono::sys_days{std::chrono::January / 5 / 2026};
  Schedule schedule{.workflow_type = "Sleeper", .start = options};
  schedule.spec = {.intervals = {{.every = 1h}},
                   .start_time = begin,
                   .end_time = begin + 24h,
                   .jitter = 10min,
                   .time_zone = "Europe/Berlin"};
  schedule.overlap = OverlapPolicy::kBufferAll;
  schedule.pause_on_failure = true;
  schedule.paused = true;
  schedule.remaining_actions = 7;
  const std::map<std::string, Payload> memo{{"owner", PayloadCodec<std::string>::encode("team")}};
  SearchAttributes labels;
  labels.set_keyword("ClientTestKeyword", "one");
  Outcome<void> made;
  // All of the server knows a new search attribute soon, not at once.
  ASSERT_TRUE(eventually([&] {
    made = schedules.create(id, schedule, memo, labels);
    return made.has_value();
  })) << made.error().text();

  const auto described = schedules.describe(id);
  ASSERT_TRUE(described) << described.error().text();
  const auto& spec = described->schedule.spec();
  EXPECT_EQ(spec.interval(0).interval().seconds(), 3600);
  EXPECT_EQ(spec.jitter().seconds(), 600);
  EXPECT_EQ(spec.timezone_name(), "Europe/Berlin");
  EXPECT_EQ(std::chrono::seconds{spec.start_time().seconds()}, begin.time_since_epoch());
  EXPECT_EQ(std::chrono::seconds{spec.end_time().seconds()}, (begin + 24h).time_since_epoch());
  EXPECT_EQ(described->schedule.policies().overlap_policy(),
            temporal::api::enums::v1::SCHEDULE_OVERLAP_POLICY_BUFFER_ALL);
  EXPECT_TRUE(described->schedule.policies().pause_on_failure());
  EXPECT_TRUE(described->schedule.state().paused());
  EXPECT_EQ(described->schedule.state().remaining_actions(), 7);
  ASSERT_TRUE(described->memo.contains("owner"));
  EXPECT_EQ(PayloadCodec<std::string>::decode(described->memo.at("owner")), "team");
  EXPECT_EQ(described->search_attributes.get<std::string>("ClientTestKeyword"), "one");
  EXPECT_TRUE(schedules.remove(id));
}

TEST_F(ClientServerTest, ScheduleUpdatesLeaveSearchAttributesUnlessTheyAreGiven) {
  ASSERT_TRUE(
      client->add_search_attributes({{"ClientTestKeyword", SearchAttributeType::kKeyword}}));
  const std::string id = options.id + "/schedule";
  const ScheduleClient schedules = client->schedules();
  Schedule schedule{.workflow_type = "Sleeper", .start = options};
  schedule.spec.intervals = {{.every = 24h}};
  schedule.paused = true;
  const std::map<std::string, Payload> memo{{"owner", PayloadCodec<std::string>::encode("team")}};
  ASSERT_TRUE(schedules.create(id, schedule, memo));
  const auto writes = [](const std::string& note) {
    return [note](ScheduleProto& changed) {
      changed.mutable_state()->set_notes(note);
      return true;
    };
  };
  const auto shows = [&](const std::string& note, const std::optional<std::string>& label) {
    return eventually([&] {
      const auto now = schedules.describe(id);
      return now && now->schedule.state().notes() == note && now->memo.contains("owner") &&
             now->search_attributes.get<std::string>("ClientTestKeyword") == label;
    });
  };
  SearchAttributes labels;
  labels.set_keyword("ClientTestKeyword", "one");
  // All of the server knows a new search attribute soon, not at once.
  ASSERT_TRUE(eventually([&] { return schedules.update(id, writes("set"), labels).has_value(); }));
  EXPECT_TRUE(shows("set", "one"));
  ASSERT_TRUE(schedules.update(id, writes("left")));
  EXPECT_TRUE(shows("left", "one"));
  ASSERT_TRUE(schedules.update(id, writes("taken"), SearchAttributes{}));
  EXPECT_TRUE(shows("taken", std::nullopt));
  EXPECT_TRUE(schedules.remove(id));
}

TEST_F(ClientServerTest, ScheduleTimesKeepToZoneBoundsAndJitter) {
  const ScheduleClient schedules = client->schedules();
  const std::string id = options.id + "/schedule";
  const TimePoint day = std::chrono::sys_days{std::chrono::January / 5 / 2026};
  const auto times = [&](ScheduleSpec spec) {
    Schedule schedule{.spec = std::move(spec), .workflow_type = "Sleeper", .start = options};
    schedule.paused = true;
    EXPECT_TRUE(schedules.create(id, schedule));
    const auto found = schedules.times(id, day, day + 6h);
    EXPECT_TRUE(found) << found.error().text();
    EXPECT_TRUE(schedules.remove(id));
    return found.value_or(std::vector<TimePoint>{});
  };
  EXPECT_EQ(times({.calendars = {{.hour = "3"}}, .time_zone = "Europe/Berlin"}),
            (std::vector<TimePoint>{day + 2h}));
  EXPECT_EQ(
      times({.intervals = {{.every = 1h}}, .start_time = day + 90min, .end_time = day + 210min}),
      (std::vector<TimePoint>{day + 2h, day + 3h}));
  const auto jittered = times({.intervals = {{.every = 1h}}, .jitter = 10min});
  EXPECT_GE(jittered.size(), 5u);
  const auto late = [&](TimePoint time) { return (time - day) % 1h; };
  EXPECT_TRUE(std::ranges::all_of(jittered, [&](TimePoint time) { return late(time) < 10min; }));
  EXPECT_TRUE(std::ranges::any_of(jittered, [&](TimePoint time) { return late(time) > 0min; }));
}

// A schedule that acts only when it is told to. Nobody runs what it starts.
class Triggered {
 public:
  Triggered(const Client& client, const StartOptions& start, OverlapPolicy overlap)
      : client_{client}, schedules_{client.schedules()}, id_{start.id + "/schedule"} {
    Schedule schedule{.workflow_type = "Sleeper", .start = start, .overlap = overlap};
    schedule.spec.intervals = {{.every = 24h}};
    schedule.paused = true;
    const auto made = schedules_.create(id_, schedule);
    EXPECT_TRUE(made) << made.error().text();
  }
  ~Triggered() {
    const auto started = runs();
    (void)schedules_.remove(id_);
    for (const auto& run : started) (void)run.terminate("test is over");
  }
  Triggered(const Triggered&) = delete;
  Triggered& operator=(const Triggered&) = delete;

  // The server names a run by its time in whole seconds, and drops one whose name is taken.
  void trigger(std::optional<OverlapPolicy> overlap = {}) {
    const auto now = std::chrono::system_clock::now();
    std::this_thread::sleep_until(std::chrono::ceil<std::chrono::seconds>(now));
    EXPECT_TRUE(schedules_.trigger(id_, overlap));
  }
  // Runs started, and starts that wait or were passed over.
  bool comes_to(int started, int buffered, int skipped) const {
    return eventually([&] {
      const auto now = schedules_.describe(id_);
      return now && now->info.recent_actions_size() == started &&
             now->info.buffer_size() == buffered && now->info.overlap_skipped() == skipped;
    });
  }
  std::vector<WorkflowHandle> runs() const {
    std::vector<WorkflowHandle> started;
    const auto now = schedules_.describe(id_);
    if (!now) return started;
    for (const auto& action : now->info.recent_actions())
      started.push_back(client_.handle(action.start_workflow_result().workflow_id()));
    return started;
  }

 private:
  const Client& client_;
  const ScheduleClient schedules_;
  const std::string id_;
};

TEST_F(ClientServerTest, AScheduleSkipsWhatOverlapsUnlessTheTriggerSaysOtherwise) {
  Triggered schedule{*client, options, OverlapPolicy::kSkip};
  schedule.trigger();
  ASSERT_TRUE(schedule.comes_to(1, 0, 0));
  schedule.trigger();
  ASSERT_TRUE(schedule.comes_to(1, 0, 1));
  schedule.trigger(OverlapPolicy::kAllowAll);
  EXPECT_TRUE(schedule.comes_to(2, 0, 1));
}

TEST_F(ClientServerTest, AScheduleKeepsOneOverlappingRunBack) {
  Triggered schedule{*client, options, OverlapPolicy::kBufferOne};
  schedule.trigger();
  ASSERT_TRUE(schedule.comes_to(1, 0, 0));
  schedule.trigger();
  ASSERT_TRUE(schedule.comes_to(1, 1, 0));
  schedule.trigger();
  ASSERT_TRUE(schedule.comes_to(1, 1, 1));
  ASSERT_TRUE(schedule.runs().at(0).terminate("make room"));
  EXPECT_TRUE(schedule.comes_to(2, 0, 1));
}

TEST_F(ClientServerTest, AScheduleKeepsAllOverlappingRunsBack) {
  Triggered schedule{*client, options, OverlapPolicy::kBufferAll};
  schedule.trigger();
  ASSERT_TRUE(schedule.comes_to(1, 0, 0));
  schedule.trigger();
  ASSERT_TRUE(schedule.comes_to(1, 1, 0));
  schedule.trigger();
  ASSERT_TRUE(schedule.comes_to(1, 2, 0));
  ASSERT_TRUE(schedule.runs().at(0).terminate("make room"));
  EXPECT_TRUE(schedule.comes_to(2, 1, 0));
}

TEST_F(ClientServerTest, AScheduleCancelsTheRunBefore) {
  Triggered schedule{*client, options, OverlapPolicy::kCancelOther};
  schedule.trigger();
  ASSERT_TRUE(schedule.comes_to(1, 0, 0));
  schedule.trigger();
  ASSERT_TRUE(schedule.comes_to(1, 1, 0)) << "the next waits for its end";
  const WorkflowHandle first = schedule.runs().at(0);
  EXPECT_TRUE(eventually([&] {
    bool asked = false;
    (void)first.for_each_event([&](const auto& event) {
      asked = asked || event.has_workflow_execution_cancel_requested_event_attributes();
      return !asked;
    });
    return asked;
  }));
  ASSERT_TRUE(first.terminate("it does not listen"));
  EXPECT_TRUE(schedule.comes_to(2, 0, 0));
}

TEST_F(ClientServerTest, AScheduleTerminatesTheRunBefore) {
  Triggered schedule{*client, options, OverlapPolicy::kTerminateOther};
  schedule.trigger();
  ASSERT_TRUE(schedule.comes_to(1, 0, 0));
  schedule.trigger();
  ASSERT_TRUE(schedule.comes_to(2, 0, 0));
  const auto ended = schedule.runs().at(0).describe();
  ASSERT_TRUE(ended) << ended.error().text();
  EXPECT_EQ(ended->status, WorkflowStatus::kTerminated);
}

TEST_F(ClientServerTest, OneClientServesManyThreads) {
  std::vector<std::thread> threads;
  std::atomic<int> good = 0;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      StartOptions mine = options;
      mine.id += "/" + std::to_string(i);
      const auto handle = client->start("Sleeper", mine);
      if (handle && handle->signal("s") && handle->terminate("end")) ++good;
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(good, 8);
}

}  // namespace
}  // namespace tempora
