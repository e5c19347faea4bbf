// Finds workflow code that does not yield: it blocks its thread, and with it every other workflow.
// C++ cannot stop a thread, so the task is failed behind its back, the thread is replaced, and what
// it brings when it does come back is thrown away.
#pragma once

#include <temporal/api/workflowservice/v1/request_response.pb.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "../engine/place.hpp"
#include "../transport/timer_queue.hpp"
#include "thread_use.hpp"

namespace tempora::pollers {

struct Watched {  // read and written under the watchdog's lock, apart from the place
  const temporal::api::workflowservice::v1::PollWorkflowTaskQueueResponse* task;
  const engine::Place* place;
  pid_t thread;
  std::optional<std::uint64_t> steps;  // as seen at the last look, if there was one
  TimeAway away;                       // since then
  bool reported = false;
};

class Watchdog : public std::enable_shared_from_this<Watchdog> {
 public:
  using Clock = TimerQueue::Clock;
  using PolledTask = temporal::api::workflowservice::v1::PollWorkflowTaskQueueResponse;

  // Of a task whose code did not come back: what is needed to answer in its place.
  struct Stuck {
    PolledTask task;  // without its history
    std::string place;
    Clock::duration since{};
  };
  using Report = std::function<void(Stuck)>;

  // `limit` zero: nothing is watched. `report` is called once for each, on a thread of `timers`.
  Watchdog(std::shared_ptr<TimerQueue> timers, Clock::duration limit, Report report)
      : timers_(std::move(timers)), limit_(limit), report_(std::move(report)) {}

  void start();
  void stop() { stopped_ = true; }

  // Watches this thread from here to `end`, or to its own end.
  class Watch {
   public:
    Watch(Watchdog& dog, const PolledTask& task);
    ~Watch() { end(); }
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;
    // True if the task was given up in the meantime.
    bool end();

   private:
    Watchdog& dog_;
    std::optional<std::list<Watched>::iterator> place_;
    bool reported_ = false;
  };

 private:
  void look();
  Clock::duration interval() const { return limit_ / 4; }

  const std::shared_ptr<TimerQueue> timers_;
  const Clock::duration limit_;
  const Report report_;
  std::atomic<bool> stopped_{false};
  std::mutex mutex_;
  std::list<Watched> watched_;  // one for each thread that is inside workflow code
};

}  // namespace tempora::pollers
