#include "thread_use.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <latch>
#include <thread>

namespace tempora::pollers {
namespace {

using namespace std::chrono_literals;

constexpr TimeAway::Clock::time_point kStart{};

ThreadUse runs(std::chrono::nanoseconds cpu) { return {.waits = false, .cpu = cpu}; }
ThreadUse waits(std::chrono::nanoseconds cpu) { return {.waits = true, .cpu = cpu}; }

TEST(TimeAway, OfAThreadThatIsNotLetIsOnlyWhatItRan) {
  TimeAway away;
  away.restart(kStart, runs(7s));
  EXPECT_EQ(away.look(kStart + 1s, runs(7s), 1s), 0s);
  EXPECT_EQ(away.look(kStart + 2s, runs(7s + 30ms), 1s), 30ms);
}

TEST(TimeAway, OfAThreadThatSpinsIsWhatItRan) {
  TimeAway away;
  away.restart(kStart, runs(0s));
  EXPECT_EQ(away.look(kStart + 500ms, runs(400ms), 1s), 400ms);
  EXPECT_EQ(away.look(kStart + 1s, runs(900ms), 1s), 900ms);
}

TEST(TimeAway, OfAThreadThatWaitsIsWhatPassed) {
  TimeAway away;
  away.restart(kStart, waits(3s));
  EXPECT_EQ(away.look(kStart + 500ms, waits(3s), 1s), 500ms);
  EXPECT_EQ(away.look(kStart + 1s, waits(3s), 1s), 1s);
}

TEST(TimeAway, DoesNotCountThatTheWholeProcessStoodStill) {
  TimeAway away;
  away.restart(kStart, waits(0s));
  EXPECT_EQ(away.look(kStart + 1h, waits(0s), 1s), 1s);
}

TEST(TimeAway, IsWhatPassedWhereTheSystemDoesNotTell) {
  TimeAway away;
  away.restart(kStart, std::nullopt);
  EXPECT_EQ(away.look(kStart + 500ms, std::nullopt, 1s), 500ms);
}

TEST(ThreadUse, TellsAThreadThatWaitsFromOneThatRuns) {
  const auto own = ThreadUse::of(ThreadUse::this_thread());
  if (!own.has_value()) GTEST_SKIP() << "this system does not tell";
  EXPECT_FALSE(own->waits);

  std::atomic<pid_t> id{0};
  std::latch end{1};
  std::jthread other{[&] {
    id = ThreadUse::this_thread();
    id.notify_one();
    end.wait();
  }};
  id.wait(0);
  while (!ThreadUse::of(id).value().waits) std::this_thread::yield();  // until it is asleep
  EXPECT_TRUE(ThreadUse::of(id).value().waits);
  end.count_down();
}

TEST(ThreadUse, OfAThreadThatIsNotThereIsNothing) {
  constexpr pid_t kMoreThanLinuxGives = 4'194'305;
  EXPECT_FALSE(ThreadUse::of(kMoreThanLinuxGives).has_value());
}

}  // namespace
}  // namespace tempora::pollers
