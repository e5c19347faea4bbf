// Histories of runs on a real server, replayed with today's code. What fails here would block such
// a workflow in production: change it behind `Context::patched`, and keep the history.
#include <gtest/gtest.h>
#include <addrflow/workflows/names.hpp>
#include <addrflow/workflows/registry.hpp>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <tempora/replayer.hpp>

namespace addrflow::workflows {
namespace {

std::vector<std::string> stored_histories() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator{ADDRFLOW_HISTORIES_DIR}) {
    names.push_back(entry.path().stem());
  }
  return names;
}

std::string read_history(const std::string& name) {
  std::ifstream file{std::filesystem::path{ADDRFLOW_HISTORIES_DIR} / (name + ".json")};
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

class StoredHistory : public ::testing::TestWithParam<std::string> {};

TEST_P(StoredHistory, ReplaysWithTodaysCode) {
  const auto replayed =
      tempora::Replayer{workflow_registry()}.replay_json(read_history(GetParam()));
  EXPECT_TRUE(replayed.has_value()) << replayed.error().message;
}

INSTANTIATE_TEST_SUITE_P(Workflows, StoredHistory, ::testing::ValuesIn(stored_histories()),
                         [](const auto& info) { return info.param; });

bool has_event(const nlohmann::json& history, const std::string& type) {
  return std::ranges::any_of(history.at("events"), [&](const nlohmann::json& event) {
    return event.at("eventType") == "EVENT_TYPE_" + type;
  });
}

TEST(StoredHistories, HoldARunOfEachWorkflowAndOnesThatContinuedAsNew) {
  std::set<std::string> types;
  bool continued = false;
  bool began_as_continuation = false;
  for (const std::string& name : stored_histories()) {
    const auto history = nlohmann::json::parse(read_history(name));
    const auto& started = history.at("events").at(0).at("workflowExecutionStartedEventAttributes");
    types.insert(started.at("workflowType").at("name"));
    continued = continued || has_event(history, "WORKFLOW_EXECUTION_CONTINUED_AS_NEW");
    began_as_continuation = began_as_continuation || started.contains("continuedExecutionRunId");
  }
  for (const auto& definition : all_workflows())
    EXPECT_TRUE(types.contains(definition->name)) << definition->name << " has no history";
  EXPECT_TRUE(continued);
  EXPECT_TRUE(began_as_continuation);
}

// A provision as somebody might change it without thinking of the runs that are under way.
class ChangedProvision {
 public:
  tempora::Task<tempora::Void> run(tempora::Context& context, tempora::RawPayload) {
    co_await context.sleep(std::chrono::seconds{1});
    co_return tempora::Void{};
  }
};

TEST(ChangedWorkflow, IsReportedWithEventCommandAndPlace) {
  const tempora::Definition<ChangedProvision> changed{kProvisionSubscriber,
                                                      tempora::run(&ChangedProvision::run)};
  tempora::WorkflowRegistry registry;
  registry.add(changed);
  const auto replayed = tempora::Replayer{registry}.replay_json(read_history("provision"));
  ASSERT_FALSE(replayed.has_value());
  EXPECT_TRUE(replayed.error().nondeterminism);
  EXPECT_NE(replayed.error().event_id, 0);
  EXPECT_FALSE(replayed.error().command.empty());
  EXPECT_NE(replayed.error().position.find("replay_test.cpp:"), std::string::npos)
      << replayed.error().position;
}

}  // namespace
}  // namespace addrflow::workflows
