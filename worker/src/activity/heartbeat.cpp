#include "heartbeat.hpp"

#include <algorithm>
#include <utility>

namespace tempora::activity {

namespace {

constexpr std::chrono::milliseconds kShortestDeadline{1'000};
// A beat whose call failed is repeated soon, so that a short outage does not
// cost the attempt.
constexpr std::chrono::milliseconds kRepeatAfterFailure{1'000};

}  // namespace

std::chrono::milliseconds heartbeat_interval(Duration heartbeat_timeout,
                                             const HeartbeatThrottle& throttle) {
  const Duration wanted =
      heartbeat_timeout > Duration::zero() ? heartbeat_timeout * 8 / 10 : throttle.without_timeout;
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::min(wanted, throttle.longest));
}

Heartbeater::Heartbeater(std::shared_ptr<TimerQueue> timers, std::chrono::milliseconds interval,
                         SendHeartbeat send, std::function<void(const HeartbeatAnswer&)> on_answer)
    : timers_(std::move(timers)),
      interval_(interval),
      send_(std::move(send)),
      on_answer_(std::move(on_answer)),
      last_beat_(Clock::now()) {}

void Heartbeater::beat(Payloads details) {
  std::unique_lock lock{mutex_};
  last_beat_ = Clock::now();
  if (closed_) return;
  pending_ = std::move(details);
  has_pending_ = true;
  if (in_flight_ || timer_ != 0) return;
  const Clock::time_point due = sent_at_ == Clock::time_point{} ? last_beat_ : sent_at_ + interval_;
  if (due <= last_beat_) {
    send_locked(lock);
  } else {
    schedule_locked(due - last_beat_);
  }
}

void Heartbeater::close() {
  const std::lock_guard lock{mutex_};
  close_locked();
}

void Heartbeater::send_and_close() {
  std::unique_lock lock{mutex_};
  if (closed_) return;
  close_locked();
  if (in_flight_) {
    sends_last_ = true;
  } else if (has_pending_) {
    send_locked(lock);
  }
}

void Heartbeater::close_locked() {
  closed_ = true;
  if (timer_ != 0) timers_->cancel(std::exchange(timer_, 0));
}

Heartbeater::Clock::time_point Heartbeater::last_beat() const {
  const std::lock_guard lock{mutex_};
  return last_beat_;
}

void Heartbeater::send_locked(std::unique_lock<std::mutex>& lock) {
  in_flight_ = true;
  has_pending_ = false;
  sent_at_ = Clock::now();
  Payloads details = pending_;  // kept: a failed call repeats it
  lock.unlock();
  send_(std::move(details), std::max(interval_, kShortestDeadline),
        [self = shared_from_this()](const std::optional<HeartbeatAnswer>& answer) {
          self->answered(answer);
        });
}

void Heartbeater::answered(const std::optional<HeartbeatAnswer>& answer) {
  {
    std::unique_lock lock{mutex_};
    in_flight_ = false;
    const bool ends = answer.has_value() && (answer->not_found || answer->refused);
    if (closed_) {
      const bool news = has_pending_ || !answer.has_value();
      if (std::exchange(sends_last_, false) && news && !ends) send_locked(lock);
      return;
    }
    if (!answer.has_value()) {
      has_pending_ = true;
      schedule_locked(std::min(interval_, kRepeatAfterFailure));
      return;
    }
    if (ends) closed_ = true;
    if (has_pending_ && !closed_) {
      const Clock::time_point due = sent_at_ + interval_;
      schedule_locked(std::max(due - Clock::now(), Clock::duration::zero()));
    }
  }
  on_answer_(*answer);
}

void Heartbeater::schedule_locked(Clock::duration wait) {
  if (timer_ != 0) return;
  timer_ = timers_->after(wait, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->timer_fired();
  });
}

void Heartbeater::timer_fired() {
  std::unique_lock lock{mutex_};
  timer_ = 0;
  if (closed_ || in_flight_ || !has_pending_) return;
  send_locked(lock);
}

}  // namespace tempora::activity
