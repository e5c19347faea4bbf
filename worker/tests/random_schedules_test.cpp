// The random schedules of the testing service on the real server, many at once, while their worker
// is stopped, lost and started: what engine and testing service have wrong alike shows here. How
// many: TEMPORA_SCHEDULES, in steps of 60; the first seed: TEMPORA_FIRST_SEED.
#include <temporal/api/history/v1/message.pb.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <peers.hpp>
#include <tempora/replayer.hpp>
#include <thread>

#include "nexus_stage.hpp"
#include "testing/schedule_driver.hpp"

namespace tempora::behaviour {
namespace {

using testing::number_from;
using testing::RandomSchedule;
using testing::scheduled_workflow;
using testing::ScheduleDriver;
using testing::ScheduleLog;

constexpr std::uint64_t kAtOnce = 20;  // with each size of the cache

// Those that the schedules set.
void register_search_attributes() {
  const std::map<std::string, SearchAttributeType> wanted{
      {"At", SearchAttributeType::kDatetime},      {"Even", SearchAttributeType::kBool},
      {"Half", SearchAttributeType::kDouble},      {"Number", SearchAttributeType::kInt},
      {"Text", SearchAttributeType::kText},        {"Word", SearchAttributeType::kKeyword},
      {"Words", SearchAttributeType::kKeywordList}};
  const Client client = connect();
  must(client.add_search_attributes(wanted));
  const auto until = std::chrono::steady_clock::now() + 30s;
  while (std::chrono::steady_clock::now() < until) {
    const auto known = must(client.list_search_attributes());
    if (std::includes(known.begin(), known.end(), wanted.begin(), wanted.end())) return;
  }
  throw std::runtime_error{"the search attributes did not come"};
}

// How far the schedules of a stage are: a step is a message that was sent, or the end of a run.
class Progress {
 public:
  void step(int steps = 1) {
    steps_ += steps;
    steps_.notify_all();
  }
  void wait_for(int steps) const {
    for (int now = steps_.load(); now < steps; now = steps_.load()) steps_.wait(now);
  }

 private:
  std::atomic<int> steps_{0};
};

int steps_of(const RandomSchedule& schedule) {
  return 1 + static_cast<int>(schedule.messages.size());
}

WorkflowHandle begin(Stage& stage, const RandomSchedule& schedule) {
  const auto signal = std::ranges::find_if(schedule.messages, &RandomSchedule::Message::with_start);
  const StartOptions options = stage.start_options();
  if (signal == schedule.messages.end())
    return must(stage.client().start(scheduled_workflow(), options, schedule.start));
  return must(stage.client().signal_with_start(scheduled_workflow().name(), options,
                                               encode_all(schedule.start), "note", signal->value));
}

// Everything is sent by one, in its order and without pauses: the server keeps that order.
void follow(const RandomSchedule& schedule, const WorkflowHandle& handle, Progress& progress) {
  SCOPED_TRACE("seed " + std::to_string(schedule.seed));
  try {
    ScheduleDriver driver{schedule, handle, 60s};
    for (const RandomSchedule::Message& message : schedule.messages) {
      if (!message.with_start) driver.send(message);
      progress.step();
    }
    const auto result = handle.result<ScheduleLog>();
    driver.expect_end(result);
    if (result) driver.expect_visible();
    progress.step();
  } catch (const std::exception& error) {
    ADD_FAILURE() << error.what();
    progress.step(steps_of(schedule));  // nobody waits for it
  }
}

// Two workers end in peace, and one between them as if its process were killed.
void change_workers(Stage& stage, const Progress& progress, int steps) {
  for (const int quarter : {1, 2, 3}) {
    progress.wait_for(steps * quarter / 4);
    if (quarter == 2) {
      stage.kill_worker();
    } else {
      stage.worker().shutdown();
    }
    stage.start_worker();
  }
}

// Every run that came of this one: itself, those that went on for it, and its children's.
void expect_replays(const Client& client, const WorkflowHandle& handle) {
  WorkflowRegistry registry;
  registry.add(scheduled_workflow());
  const Replayer replayer{registry};
  std::vector<std::pair<std::string, std::string>> open{{handle.id(), handle.started_run_id()}};
  while (!open.empty()) {
    const auto [id, run_id] = open.back();
    open.pop_back();
    const auto history = must(client.handle(id, run_id).history());
    const auto replayed = replayer.replay(*history);
    EXPECT_TRUE(replayed.has_value()) << id << " " << run_id << ": " << replayed.error().message;
    const auto goes_on = [&open, &id](const std::string& next) {
      if (!next.empty()) open.emplace_back(id, next);
    };
    for (const auto& event : history->events()) {
      goes_on(event.workflow_execution_continued_as_new_event_attributes().new_execution_run_id());
      goes_on(event.workflow_execution_failed_event_attributes().new_execution_run_id());
      if (!event.has_child_workflow_execution_started_event_attributes()) continue;
      const auto& child =
          event.child_workflow_execution_started_event_attributes().workflow_execution();
      open.emplace_back(child.workflow_id(), child.run_id());
    }
  }
}

void play(Stage& stage, const std::string& endpoint, std::uint64_t first) {
  std::vector<RandomSchedule> schedules;
  std::vector<WorkflowHandle> handles;
  int steps = 0;
  for (std::uint64_t seed = first; seed < first + kAtOnce; ++seed) {
    const RandomSchedule& schedule = schedules.emplace_back(seed, endpoint);
    handles.push_back(begin(stage, schedule));
    steps += steps_of(schedule);
  }
  Progress progress;
  {
    std::vector<std::jthread> senders;
    for (std::size_t i = 0; i < schedules.size(); ++i) {
      senders.emplace_back(
          [&schedules, &handles, &progress, i] { follow(schedules[i], handles[i], progress); });
    }
    change_workers(stage, progress, steps);
  }
  for (std::size_t i = 0; i < schedules.size(); ++i) {
    SCOPED_TRACE("seed " + std::to_string(schedules[i].seed));
    expect_replays(stage.client(), handles[i]);
  }
}

void prepare(Stage& stage) {
  stage.beat_often();
  stage.runs(scheduled_workflow());
  testing::add_scheduled_activities(
      stage.client(),
      [&stage](const auto& type, const auto& function) { stage.does(type, function); });
  testing::add_scheduled_operations(
      [&stage](const auto& operation, const auto& function) { stage.serves(operation, function); });
  stage.does(testing::kHang, [](ActivityContext& context, const Void&) {
    while (!context.wait_cancelled(100ms)) context.heartbeat();
    context.throw_if_cancelled();
    return 0;
  });
}

// Nothing here depends on how fast anybody is: two timers set by one task come in their order
// however late the server looks, and a wait with a limit has nothing else that ends it, or an hour.
TEST(RandomSchedulesOnTheServer, EndAsTheModelSaysAndReplay) {
  NEEDS_SERVER();
  register_search_attributes();
  const std::uint64_t first = number_from("TEMPORA_FIRST_SEED", 1);
  const std::uint64_t count = number_from("TEMPORA_SCHEDULES", 3 * kAtOnce);
  with_each_cache([first, count](Stage& stage) {
    prepare(stage);
    const OwnEndpoint endpoint{stage};
    stage.start_worker();
    const std::uint64_t part = std::min<std::uint64_t>(stage.max_cached(), 2);
    for (std::uint64_t done = 0; done < count; done += 3 * kAtOnce)
      play(stage, endpoint.name(), first + done + part * kAtOnce);
    stage.worker().shutdown();
  });
}

}  // namespace
}  // namespace tempora::behaviour
