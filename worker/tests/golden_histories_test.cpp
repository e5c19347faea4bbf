// Stored histories of the engine's own workflows. Each replays with this build, piece by piece,
// too; a changed workflow is reported; a flag that nobody here knows is refused.
//
// A history is made on the real server, once (the peers must run):
//
//   ADDRFLOW_PEERS_ENV=build/dev/peers/env TEMPORA_RECORD_HISTORIES=missing worker_histories
//
// makes those that have no file, with a name instead of "missing" that one again. What a release
// has written is not made again: it would prove nothing of the runs out there.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <temporal/api/enums/v1/event_type.pb.h>
#include <temporal/api/history/v1/message.pb.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <tempora/replayer.hpp>
#include <utility>

#include "golden.hpp"

namespace tempora::behaviour {
namespace {

namespace enums = temporal::api::enums::v1;
using ::testing::HasSubstr;
using HistoryProto = temporal::api::history::v1::History;

std::vector<Golden> goldens() {
  std::vector<Golden> all = golden_operations();
  std::ranges::move(golden_messages(), std::back_inserter(all));
  return all;
}

std::filesystem::path file_of(const std::string& name) {
  return std::filesystem::path{TEMPORA_HISTORIES_DIR} / (name + ".json");
}

HistoryProto stored(const std::string& name) {
  std::ifstream file{file_of(name)};
  std::stringstream text;
  text << file.rdbuf();
  auto history = parse_history(text.str());
  if (!history) throw std::runtime_error{name + ": " + history.error()};
  return std::move(*history);
}

Replayer replayer_of(const Types& types) {
  WorkflowRegistry registry;
  for (const auto& type : types) registry.add(type);
  return Replayer{std::move(registry)};
}

// --- making them

std::string perform(ActivityContext& context, const std::string& order) {
  if (order == "refuse") throw ApplicationError{"no", "Refused", true};
  if (order == "fail twice" && context.info().attempt < 3) throw ApplicationError{"not yet"};
  if (order == "say nothing") context.complete_later();
  if (order == "slow") context.wait_cancelled(300ms);
  if (order == "very slow") context.wait_cancelled(2500ms);
  while (order == kHeld && !context.wait_cancelled(50ms)) context.heartbeat();
  context.throw_if_cancelled();
  return order;
}

// What differs from machine to machine and says nothing.
void strip(nlohmann::json& value) {
  if (!value.is_structured()) return;
  for (const std::string key : {"identity", "taskId", "requestId", "links"}) {
    if (value.is_object()) value.erase(key);
  }
  for (nlohmann::json& member : value) strip(member);
}

// An event a line.
void write(const std::string& name, const std::string& exported) {
  const nlohmann::json history = nlohmann::json::parse(exported);
  std::ofstream file{file_of(name)};
  const char* before = "{\"events\": [\n";
  for (nlohmann::json event : history.at("events")) {
    strip(event);
    file << std::exchange(before, ",\n") << event.dump();
  }
  file << "\n]}\n";
}

void record(const Golden& golden) {
  Stage stage{connect(), 1'000};
  stage.options.task_queue = "golden";
  stage.options.identity = "golden";  // part of the sticky queue's name
  stage.beat_often();
  for (const auto& type : golden.recorded_with.empty() ? golden.types : golden.recorded_with)
    stage.runs(type);
  stage.does(kWork, perform);
  write(golden.name, must(golden.play(stage).history_json()));
}

bool wanted(const std::string& name) {
  const char* asked = std::getenv("TEMPORA_RECORD_HISTORIES");
  if (asked == nullptr) return false;
  if (std::string{"missing"} == asked) return !std::filesystem::exists(file_of(name));
  static std::set<std::string> made;
  return asked == name && made.insert(name).second;
}

// --- judging them

class GoldenHistory : public ::testing::TestWithParam<Golden> {
 protected:
  void SetUp() override {
    if (wanted(GetParam().name)) record(GetParam());
  }
};

TEST_P(GoldenHistory, Replays) {
  const auto replayed = replayer_of(GetParam().types).replay(stored(GetParam().name));
  EXPECT_TRUE(replayed.has_value()) << replayed.error().message;
}

// As a worker sees it that lost the run on the way.
TEST_P(GoldenHistory, ReplaysUpToEachTask) {
  const Replayer replayer = replayer_of(GetParam().types);
  const HistoryProto whole = stored(GetParam().name);
  HistoryProto part;
  for (const auto& event : whole.events()) {
    *part.add_events() = event;
    if (event.event_type() != enums::EVENT_TYPE_WORKFLOW_TASK_STARTED) continue;
    const auto replayed = replayer.replay(part);
    EXPECT_TRUE(replayed.has_value()) << event.event_id() << ": " << replayed.error().message;
  }
}

TEST_P(GoldenHistory, OfAChangedWorkflowIsReportedWithEventCommandAndPlace) {
  const Golden& golden = GetParam();
  const auto replayed = replayer_of(golden.changed).replay(stored(golden.name));
  ASSERT_FALSE(replayed.has_value());
  const ReplayError& error = replayed.error();
  EXPECT_TRUE(error.nondeterminism) << error.message;
  EXPECT_EQ(error.event_type, golden.event) << error.message;
  EXPECT_THAT(error.command, HasSubstr(golden.command)) << error.message;
  EXPECT_EQ(error.workflow_type, golden.types.front()->name);
  EXPECT_THAT(error.position, HasSubstr("golden_")) << error.message;
}

// A flag stands for rules that this build does not have: it must not guess.
TEST_P(GoldenHistory, WithAFlagThatIsNotKnownHereIsRefused) {
  HistoryProto history = stored(GetParam().name);
  temporal::api::history::v1::HistoryEvent* last = nullptr;
  for (auto& event : *history.mutable_events()) {
    if (event.has_workflow_task_completed_event_attributes()) last = &event;
  }
  ASSERT_NE(last, nullptr);
  last->mutable_workflow_task_completed_event_attributes()
      ->mutable_sdk_metadata()
      ->add_lang_used_flags(7);
  const auto replayed = replayer_of(GetParam().types).replay(history);
  ASSERT_FALSE(replayed.has_value());
  EXPECT_FALSE(replayed.error().nondeterminism);
  EXPECT_THAT(replayed.error().message,
              HasSubstr("event " + std::to_string(last->event_id()) + " has the SDK flag 7"));
}

INSTANTIATE_TEST_SUITE_P(Engine, GoldenHistory, ::testing::ValuesIn(goldens()),
                         [](const auto& info) { return info.param.name; });

TEST(GoldenHistories, AreThoseThatTheTestsName) {
  std::set<std::string> names;
  for (const Golden& golden : goldens()) names.insert(golden.name);
  std::set<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator{TEMPORA_HISTORIES_DIR})
    files.insert(entry.path().stem());
  EXPECT_EQ(files, names);
}

// Whatever a workflow can command, and every way in which that can end, is held still by one.
TEST(GoldenHistories, HoldEveryKindOfEventThatTheEngineReads) {
  std::set<std::string> missing;
  for (const char* type : {"ACTIVITY_TASK_SCHEDULED",
                           "ACTIVITY_TASK_COMPLETED",
                           "ACTIVITY_TASK_FAILED",
                           "ACTIVITY_TASK_TIMED_OUT",
                           "ACTIVITY_TASK_CANCEL_REQUESTED",
                           "ACTIVITY_TASK_CANCELED",
                           "TIMER_STARTED",
                           "TIMER_FIRED",
                           "TIMER_CANCELED",
                           "MARKER_RECORDED",
                           "START_CHILD_WORKFLOW_EXECUTION_INITIATED",
                           "START_CHILD_WORKFLOW_EXECUTION_FAILED",
                           "CHILD_WORKFLOW_EXECUTION_STARTED",
                           "CHILD_WORKFLOW_EXECUTION_COMPLETED",
                           "CHILD_WORKFLOW_EXECUTION_FAILED",
                           "SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED",
                           "SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED",
                           "EXTERNAL_WORKFLOW_EXECUTION_SIGNALED",
                           "REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED",
                           "REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED",
                           "EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED",
                           "UPSERT_WORKFLOW_SEARCH_ATTRIBUTES",
                           "WORKFLOW_PROPERTIES_MODIFIED",
                           "WORKFLOW_EXECUTION_SIGNALED",
                           "WORKFLOW_EXECUTION_CANCEL_REQUESTED",
                           "WORKFLOW_EXECUTION_UPDATE_ACCEPTED",
                           "WORKFLOW_EXECUTION_UPDATE_COMPLETED",
                           "WORKFLOW_TASK_FAILED",
                           "NEXUS_OPERATION_SCHEDULED",
                           "NEXUS_OPERATION_STARTED",
                           "NEXUS_OPERATION_COMPLETED",
                           "NEXUS_OPERATION_FAILED",
                           "NEXUS_OPERATION_CANCEL_REQUESTED",
                           "NEXUS_OPERATION_CANCELED",
                           "WORKFLOW_EXECUTION_COMPLETED",
                           "WORKFLOW_EXECUTION_CANCELED",
                           "WORKFLOW_EXECUTION_CONTINUED_AS_NEW"}) {
    missing.insert(std::string{"EVENT_TYPE_"} + type);
  }
  for (const Golden& golden : goldens()) {
    for (const auto& event : stored(golden.name).events())
      missing.erase(enums::EventType_Name(event.event_type()));
  }
  EXPECT_THAT(missing, ::testing::IsEmpty());
}

}  // namespace
}  // namespace tempora::behaviour
