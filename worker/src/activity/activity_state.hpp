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
  ActivityState(ActivityInfo info, Payloads earlier_details, Logger log)
      : info(std::move(info)), earlier_details(std::move(earlier_details)), log(std::move(log)) {}

  void cancel(CancelReason reason);
  CancelReasons reasons() const;
  bool wait_cancelled(Duration at_most) const;
  void beat(Payloads details);
  Payloads latest_details() const;
  bool has_latest_details() const;
  std::stop_token stop_token() const { return stop_.get_token(); }

  const ActivityInfo info;
  const Payloads earlier_details;
  const Logger log;
  // Set before the activity starts; null in tests of activities.
  std::function<void(Payloads)> on_heartbeat;

 private:
  mutable std::mutex mutex_;
  mutable std::condition_variable cancelled_;
  unsigned reasons_ = 0;
  bool has_latest_ = false;
  Payloads latest_;
  std::stop_source stop_;
};

}  // namespace tempora::detail
