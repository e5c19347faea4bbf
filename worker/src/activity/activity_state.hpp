// The shared half of an `ActivityContext`: the worker keeps it to cancel the
// activity, the activity to read it.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <stop_token>
#include <tempora/activity.hpp>

namespace tempora::detail {

class ActivityState {
 public:
  // `worker_log` may be null: then nothing is logged.
  ActivityState(ActivityInfo info, Payloads earlier_details,
                std::shared_ptr<const Logger> worker_log)
      : info(std::move(info)),
        earlier_details(std::move(earlier_details)),
        worker_log_(std::move(worker_log)) {}

  void cancel(CancelReason reason);
  CancelReasons reasons() const;
  bool wait_cancelled(Duration at_most) const;
  void beat(Payloads details);
  Payloads latest_details() const;
  bool has_latest_details() const;
  // With the fields of this attempt; made when it is asked for, since most attempts log nothing.
  Logger log() const;
  std::stop_token stop_token() const { return stop_.get_token(); }

  const ActivityInfo info;
  const Payloads earlier_details;
  // Set before the activity starts; null in tests of activities.
  std::function<void(Payloads)> on_heartbeat;
  std::size_t details_limit_bytes = 0;  // 0: none

 private:
  const std::shared_ptr<const Logger> worker_log_;
  mutable std::mutex mutex_;
  mutable std::condition_variable cancelled_;
  unsigned reasons_ = 0;
  bool has_latest_ = false;
  Payloads latest_;
  std::stop_source stop_;
};

}  // namespace tempora::detail
