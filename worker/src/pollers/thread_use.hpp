// What a thread did with a stretch of time. On a busy machine a thread that could go on may not be
// let: that is not its doing, and looks on the clock like a thread that is blocked.
#pragma once

#include <sys/types.h>

#include <algorithm>
#include <chrono>
#include <optional>

namespace tempora::pollers {

struct ThreadUse {
  bool waits = false;  // for something else than a processor
  std::chrono::nanoseconds cpu{};

  static pid_t this_thread();
  // Nothing if the system does not tell.
  static std::optional<ThreadUse> of(pid_t thread);
};

// Adds up the time that a thread spent in one and the same step of its work, by looks at it: what
// it ran if it runs, what passed if it waits.
class TimeAway {
 public:
  using Clock = std::chrono::steady_clock;

  // The step begins with this look.
  void restart(Clock::time_point now, std::optional<ThreadUse> use) {
    spent_ = {};
    last_ = now;
    cpu_ = use.has_value() ? use->cpu : std::chrono::nanoseconds{};
  }

  // Between two looks at most `most` counts: a process that was stopped as a whole, or looked at
  // late, says nothing about this thread.
  Clock::duration look(Clock::time_point now, std::optional<ThreadUse> use, Clock::duration most) {
    const Clock::duration passed = std::min<Clock::duration>(now - last_, most);
    last_ = now;
    if (!use.has_value()) return spent_ += passed;
    const Clock::duration ran = use->cpu - cpu_;
    cpu_ = use->cpu;
    return spent_ += use->waits ? std::max(passed, ran) : ran;
  }

 private:
  Clock::time_point last_;
  std::chrono::nanoseconds cpu_{};
  Clock::duration spent_{};
};

}  // namespace tempora::pollers
