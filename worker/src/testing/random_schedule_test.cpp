// Random schedules on the testing service: caches are evicted, workers lost, answers lost, attempts
// fail and hang; every workflow ends as the model says, and every history replays. How many:
// TEMPORA_SCHEDULES; the first seed: TEMPORA_FIRST_SEED.
#include "testing/random_schedule.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <tempora/testing/environment.hpp>

#include "testing/schedule_driver.hpp"

namespace tempora::testing {
namespace {

EnvironmentOptions options_of(std::uint64_t seed) {
  std::mt19937_64 random{seed};
  EnvironmentOptions options{.seed = seed % 4 == 0 ? 0 : seed};
  options.max_cached_workflows = std::array<std::size_t, 3>{0, 1, 1'000}[random() % 3];
  options.evict_rate = std::array{0.0, 0.2, 0.6}[random() % 3];
  options.lost_task_rate = random() % 3 == 0 ? 0.05 : 0.0;
  options.activity_failure_rate = random() % 2 == 0 ? 0.2 : 0.0;
  options.activity_timeout_rate = random() % 3 == 0 ? 0.05 : 0.0;
  return options;
}

bool uses(const RandomSchedule& schedule, const char* step) {
  return schedule.start.steps.dump().find(step) != std::string::npos;
}

void add_all(Environment& env, const RandomSchedule& schedule) {
  const auto add = [&env](const auto& type, const auto& function) { env.add(type, function); };
  env.add(scheduled_workflow());
  add_scheduled_activities(env.client(), add);
  if (uses(schedule, "nexus")) add_scheduled_operations(add);
}

void start(Environment& env, const RandomSchedule& schedule) {
  const auto signal = std::ranges::find_if(schedule.messages, &RandomSchedule::Message::with_start);
  if (signal == schedule.messages.end()) {
    env.start(scheduled_workflow(), "schedule", schedule.start);
    return;
  }
  env.start_worker();
  const auto started = env.client().signal_with_start(
      scheduled_workflow().name(), {.id = "schedule", .task_queue = "test"},
      encode_all(schedule.start), "note", signal->value);
  EXPECT_TRUE(started) << started.error().text();
}

void play(const RandomSchedule& schedule) {
  Environment env{options_of(schedule.seed)};
  add_all(env, schedule);
  env.inject([](const ActivityAttempt& attempt) -> std::optional<ActivityFault> {
    if (attempt.type == "hang") return ActivityFault::hangs();
    return std::nullopt;
  });
  const auto handle = env.client().handle("schedule");
  ScheduleDriver driver{schedule, handle};
  std::vector<std::vector<RandomSchedule::Message>> bursts;
  for (const RandomSchedule::Message& message : schedule.messages) {
    if (message.with_start) continue;
    if (!message.with_previous) bursts.emplace_back();
    bursts.back().push_back(message);
  }
  for (const auto& burst : bursts) {
    env.at(burst.front().at, [&driver, &burst] {
      for (const RandomSchedule::Message& message : burst) driver.send(message);
    });
  }
  if (schedule.seed % 5 == 0) {
    env.at(std::chrono::milliseconds{schedule.seed % 40}, [&] { env.restart_worker(); });
  }
  start(env, schedule);
  const auto result = handle.result<ScheduleLog>();
  env.settle();  // nobody is sending any more
  driver.expect_end(result);
  if (result) driver.expect_visible();
  for (const std::string& id : env.workflow_ids()) {
    const auto replayed = env.replay(id);
    EXPECT_TRUE(replayed) << id << ": " << replayed.error().message;
  }
}

TEST(RandomSchedules, EndAsTheModelSaysAndReplay) {
  const std::uint64_t first = number_from("TEMPORA_FIRST_SEED", 1);
  const std::uint64_t count = number_from("TEMPORA_SCHEDULES", 300);
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    const RandomSchedule schedule{seed};
    SCOPED_TRACE("seed " + std::to_string(seed));
    play(schedule);
    if (HasFailure()) FAIL() << nlohmann::json(schedule.start).dump(1);
  }
}

TEST(RandomSchedules, TheSameSeedTakesTheSameCourse) {
  const auto course = [](std::uint64_t seed) {
    const RandomSchedule schedule{seed};
    Environment env{{.seed = seed, .evict_rate = 0.3, .activity_failure_rate = 0.2}};
    add_all(env, schedule);
    env.start(scheduled_workflow(), "schedule", ScheduleState{.steps = schedule.start.steps});
    env.advance(std::chrono::hours{2});
    std::vector<std::string> events;
    const auto history = env.client().handle("schedule").history();
    for (const auto& event : (*history)->events())
      events.push_back(std::to_string(event.event_type()) + "@" +
                       std::to_string(event.event_time().nanos()));
    return events;
  };
  int compared = 0;
  for (std::uint64_t seed = 1; compared < 3; ++seed) {
    // A schedule without side effects: those differ by intent.
    if (uses(RandomSchedule{seed}, "side_effect")) continue;
    EXPECT_EQ(course(seed), course(seed)) << "seed " << seed;
    ++compared;
  }
}

}  // namespace
}  // namespace tempora::testing
