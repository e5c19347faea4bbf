// Thins the heartbeats of one activity attempt: the first goes out at once,
// later ones only replace the details that are sent when the interval is over.
// Never blocks the activity.
#pragma once

#include <temporal/api/common/v1/message.pb.h>
#include <temporal/api/failure/v1/message.pb.h>

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <tempora/activity.hpp>

#include "../pollers/calls.hpp"

namespace tempora::activity {

// What the server said to a heartbeat.
struct HeartbeatAnswer {
  bool cancel_requested = false;
  bool paused = false;
  bool reset = false;
  bool not_found = false;  // the server no longer knows this attempt
  // The details are too large and would be each time: with this the attempt fails.
  std::optional<temporal::api::failure::v1::Failure> refused{};
};

// Sends one heartbeat; `done(answer)` with no value if the call failed for
// another reason than NOT_FOUND.
using SendHeartbeat = std::function<void(Payloads, std::chrono::milliseconds deadline,
                                         std::function<void(std::optional<HeartbeatAnswer>)> done)>;

struct HeartbeatThrottle {
  Duration without_timeout = std::chrono::seconds{30};
  Duration longest = std::chrono::seconds{60};
};

// 0.8 of the time-out, within what `throttle` says.
std::chrono::milliseconds heartbeat_interval(Duration heartbeat_timeout,
                                             const HeartbeatThrottle& throttle = {});

class Heartbeater : public std::enable_shared_from_this<Heartbeater> {
 public:
  using Clock = TimerQueue::Clock;

  Heartbeater(std::shared_ptr<TimerQueue> timers, std::chrono::milliseconds interval,
              SendHeartbeat send, std::function<void(const HeartbeatAnswer&)> on_answer);

  void beat(Payloads details);
  // Nothing is sent any more; a call under way is left to itself.
  void close();
  // The same, but details that the server does not have are sent once more: at once or, if a call
  // is under way, when that has ended.
  void send_and_close();
  Clock::time_point last_beat() const;

 private:
  void close_locked();
  void send_locked(std::unique_lock<std::mutex>& lock);
  void answered(const std::optional<HeartbeatAnswer>& answer);
  void schedule_locked(Clock::duration wait);
  void timer_fired();

  const std::shared_ptr<TimerQueue> timers_;
  const std::chrono::milliseconds interval_;
  const SendHeartbeat send_;
  const std::function<void(const HeartbeatAnswer&)> on_answer_;

  mutable std::mutex mutex_;
  Payloads pending_;
  bool has_pending_ = false;
  bool in_flight_ = false;
  bool closed_ = false;
  bool sends_last_ = false;   // closed, after the call under way
  TimerQueue::Id timer_ = 0;  // 0: none
  Clock::time_point sent_at_{};
  Clock::time_point last_beat_;
};

}  // namespace tempora::activity
