#include <fmt/format.h>

#include <algorithm>
#include <tempora/activity.hpp>
#include <tempora/failure.hpp>

#include "activity_state.hpp"
#include "converter/too_large.hpp"

namespace tempora {

namespace detail {

void ActivityState::cancel(CancelReason reason) {
  {
    const std::lock_guard lock{mutex_};
    reasons_ |= static_cast<unsigned>(reason);
  }
  cancelled_.notify_all();
  stop_.request_stop();
}

CancelReasons ActivityState::reasons() const {
  const std::lock_guard lock{mutex_};
  return CancelReasons{reasons_};
}

bool ActivityState::wait_cancelled(Duration at_most) const {
  std::unique_lock lock{mutex_};
  // Bounded, since the time-out is added to the clock: `Duration::max()` would
  // overflow.
  const Duration wait = std::min<Duration>(at_most, std::chrono::hours{24 * 365});
  return cancelled_.wait_for(lock, wait, [this] { return reasons_ != 0; });
}

// The server would fail an activity that sends more.
void ActivityState::beat(Payloads details) {
  if (const std::size_t bytes = details.ByteSizeLong();
      details_limit_bytes > 0 && bytes > details_limit_bytes) {
    throw payloads_too_large(fmt::format("a heartbeat of activity {}", info.activity_type), bytes,
                             details_limit_bytes);
  }
  {
    const std::lock_guard lock{mutex_};
    latest_ = details;
    has_latest_ = true;
  }
  if (on_heartbeat) on_heartbeat(std::move(details));
}

Payloads ActivityState::latest_details() const {
  const std::lock_guard lock{mutex_};
  return latest_;
}

Logger ActivityState::log() const {
  if (worker_log_ == nullptr) return {};
  return worker_log_->with("ActivityType", info.activity_type)
      .with("ActivityID", info.activity_id)
      .with("WorkflowID", info.workflow_id)
      .with("RunID", info.run_id)
      .with("Attempt", std::to_string(info.attempt));
}

bool ActivityState::has_latest_details() const {
  const std::lock_guard lock{mutex_};
  return has_latest_;
}

}  // namespace detail

ActivityContext::ActivityContext(ActivityInfo info)
    : state_(std::make_shared<detail::ActivityState>(std::move(info), Payloads{}, nullptr)) {}

ActivityContext::ActivityContext(std::shared_ptr<detail::ActivityState> state)
    : state_(std::move(state)) {}

ActivityContext::~ActivityContext() = default;

const ActivityInfo& ActivityContext::info() const { return state_->info; }

void ActivityContext::heartbeat_payloads(Payloads details) { state_->beat(std::move(details)); }

const Payloads& ActivityContext::earlier_details() const { return state_->earlier_details; }

Payloads ActivityContext::latest_details() const { return state_->latest_details(); }

CancelReasons ActivityContext::cancel_reasons() const { return state_->reasons(); }

std::stop_token ActivityContext::stop_token() const { return state_->stop_token(); }

bool ActivityContext::wait_cancelled(Duration at_most) const {
  return state_->wait_cancelled(at_most);
}

void ActivityContext::request_cancel(CancelReason reason) { state_->cancel(reason); }

TimePoint ActivityContext::deadline() const {
  TimePoint deadline = TimePoint::max();
  const ActivityInfo& info = state_->info;
  if (info.start_to_close > Duration::zero()) deadline = info.started_time + info.start_to_close;
  if (info.schedule_to_close > Duration::zero()) {
    deadline = std::min(deadline, info.scheduled_time + info.schedule_to_close);
  }
  return deadline;
}

Duration ActivityContext::time_left() const {
  const TimePoint until = deadline();
  if (until == TimePoint::max()) return Duration::max();
  const TimePoint now = std::chrono::time_point_cast<Duration>(std::chrono::system_clock::now());
  return std::max(until - now, Duration::zero());
}

Logger ActivityContext::log() const { return state_->log(); }

}  // namespace tempora
