// Random schedules on the testing service: caches are evicted, workers lost, answers lost, attempts
// fail and hang; every workflow ends as the model says, and every history replays. How many:
// TEMPORA_SCHEDULES; the first seed: TEMPORA_FIRST_SEED.
#include "testing/random_schedule.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <tempora/testing/environment.hpp>

namespace tempora::testing {
namespace {

std::uint64_t number_from(const char* variable, std::uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

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

void add_all(Environment& env) {
  env.add(scheduled_workflow());
  env.add(kDouble, [](const int& n) { return 2 * n; });
  env.add(kRefuse,
          [](const bool& for_good) -> int { throw ApplicationError{"no", "Refused", for_good}; });
}

using Log = std::vector<std::string>;

bool begins_with(const Log& whole, const Log& part) {
  return part.size() <= whole.size() && std::equal(part.begin(), part.end(), whole.begin());
}

// All of it, or, if it was cancelled, what it did until then.
void expect_end(const RandomSchedule& schedule, const WorkflowHandle& handle,
                const Outcome<Log>& result) {
  const Log expected = schedule.expected();
  if (result) {
    EXPECT_EQ(*result, expected);
    return;
  }
  EXPECT_TRUE(schedule.may_be_cancelled()) << result.error().text();
  EXPECT_EQ(result.error().code, ErrorCode::kWorkflowCanceled) << result.error().text();
  const auto log = handle.query<Log>("log");
  ASSERT_TRUE(log) << log.error().text();
  EXPECT_TRUE(begins_with(expected, *log)) << nlohmann::json(*log).dump();
}

void play(const RandomSchedule& schedule) {
  Environment env{options_of(schedule.seed)};
  add_all(env);
  env.inject([](const ActivityAttempt& attempt) -> std::optional<ActivityFault> {
    if (attempt.type == "hang") return ActivityFault::hangs();
    return std::nullopt;
  });
  const auto handle = env.client().handle("schedule");
  std::size_t size = 0;
  const bool may_have_ended = schedule.may_be_cancelled();
  const auto send = [&](const RandomSchedule::Message& message) {
    switch (message.kind) {
      case RandomSchedule::Message::Kind::kSignal:
        EXPECT_TRUE(handle.signal("note", message.value) || may_have_ended);
        break;
      case RandomSchedule::Message::Kind::kUpdate: {
        const auto answer = handle.update<int>("put", {}, message.value);
        EXPECT_TRUE(answer || may_have_ended) << answer.error().text();
        if (answer) EXPECT_EQ(*answer, 2 * message.value);
        break;
      }
      case RandomSchedule::Message::Kind::kRefusedUpdate: {
        const auto answer = handle.update<int>("put", {}, message.value);
        ASSERT_FALSE(answer);
        if (answer.error().code == ErrorCode::kUpdateFailed && !may_have_ended)
          EXPECT_NE(answer.error().text().find("no negative numbers"), std::string::npos);
        break;
      }
      case RandomSchedule::Message::Kind::kCancel: {
        const auto asked = handle.cancel();
        EXPECT_TRUE(asked) << asked.error().text();
        break;
      }
      case RandomSchedule::Message::Kind::kQuery: {
        const auto answer = handle.query<Log>("log");
        ASSERT_TRUE(answer) << answer.error().text();
        EXPECT_GE(answer->size(), size) << "what was done is undone";
        EXPECT_TRUE(begins_with(schedule.expected(), *answer));
        size = answer->size();
      }
    }
  };
  std::vector<std::vector<RandomSchedule::Message>> bursts;
  for (const RandomSchedule::Message& message : schedule.messages) {
    if (!message.with_previous) bursts.emplace_back();
    bursts.back().push_back(message);
  }
  for (const auto& burst : bursts) {
    env.at(burst.front().at, [&send, &burst] {
      for (const RandomSchedule::Message& message : burst) send(message);
    });
  }
  if (schedule.seed % 5 == 0) {
    env.at(std::chrono::milliseconds{schedule.seed % 40}, [&] { env.restart_worker(); });
  }
  env.start(scheduled_workflow(), "schedule", schedule.start);
  const auto result = handle.result<Log>();
  env.settle();  // nobody is sending any more
  expect_end(schedule, handle, result);
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
    add_all(env);
    env.start(scheduled_workflow(), "schedule", ScheduleState{.steps = schedule.start.steps});
    env.advance(std::chrono::hours{2});
    std::vector<std::string> events;
    const auto history = env.client().handle("schedule").history();
    for (const auto& event : (*history)->events())
      events.push_back(std::to_string(event.event_type()) + "@" +
                       std::to_string(event.event_time().nanos()));
    return events;
  };
  // A schedule without side effects: those differ by intent.
  for (const std::uint64_t seed : {3, 5, 11}) EXPECT_EQ(course(seed), course(seed));
}

}  // namespace
}  // namespace tempora::testing
