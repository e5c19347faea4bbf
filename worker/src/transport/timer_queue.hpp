// One thread that calls functions later: back-off of polls and calls,
// heartbeats, deadlines.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>

namespace tempora {

class TimerQueue {
 public:
  using Clock = std::chrono::steady_clock;
  using Id = std::uint64_t;
  using Callback = std::move_only_function<void()>;

  TimerQueue();
  ~TimerQueue();  // what is still pending never runs
  TimerQueue(const TimerQueue&) = delete;
  TimerQueue& operator=(const TimerQueue&) = delete;

  // `callback` runs once on the timer thread and must be short.
  Id after(Clock::duration delay, Callback callback);
  // True if the callback will not run. False if it ran, runs now, or was
  // cancelled before.
  bool cancel(Id id);

 private:
  struct State;
  static void loop(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
};

}  // namespace tempora
