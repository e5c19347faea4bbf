// Keeps a number of long polls open on one task queue: slot first, then poll,
// and again, for ever. Without threads: each step is started by the end of the
// one before.
#pragma once

#include <google/protobuf/message.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <tempora/logging.hpp>
#include <tempora/metrics.hpp>
#include <unordered_map>
#include <vector>

#include "calls.hpp"
#include "slots.hpp"

namespace tempora::pollers {

// What a worker's heartbeat says of its tasks of one kind.
struct TaskNumbers {
  std::size_t slots = 0;
  std::size_t used = 0;
  std::size_t polls = 0;
  std::int32_t processed = 0;
  std::int32_t failed = 0;
};

// At most `per_second` grants a second on average, in bursts of at most one
// second's worth.
class RateLimit {
 public:
  explicit RateLimit(double per_second) : per_second_(per_second) {}
  bool limits() const { return per_second_ > 0; }
  // Takes one grant and says how long to wait before using it.
  TimerQueue::Clock::duration take();

 private:
  const double per_second_;
  std::mutex mutex_;
  TimerQueue::Clock::time_point next_{};
};

class PollGroup : public std::enable_shared_from_this<PollGroup> {
 public:
  using MessagePtr = std::unique_ptr<google::protobuf::Message>;

  struct Settings {
    std::string_view method;
    MessagePtr request;  // sent by every poll
    std::function<MessagePtr()> new_response;
    std::function<bool(const google::protobuf::Message&)> is_empty;
    std::function<void(MessagePtr, Permit)> on_task;  // on a transport thread; must not block
    std::function<void(bool empty)> on_answer;        // for metrics
    std::function<void(std::size_t open)> on_open;    // for metrics; null, or fast
    // What the server thinks of the number of polls: to be added to it. Null: the number is fixed.
    std::function<std::optional<int>(const google::protobuf::Message&)> hint;
    std::size_t most_polls = 0;       // with `hint`
    std::shared_ptr<RateLimit> rate;  // or null
    std::size_t polls = 1;
    std::chrono::milliseconds deadline{70'000};
    Logger log;
  };

  PollGroup(std::shared_ptr<const CallEnvironment> environment, std::shared_ptr<SlotPool> slots,
            Settings settings);

  void start();
  // No new poll starts. Open ones go on until the server ends them.
  void stop();
  std::size_t open() const;
  // Ends the open polls. A task that the server has already matched to one of
  // them is lost until it times out.
  void cancel_open();
  // Waits until no poll is open. False if `until` came first.
  bool wait_closed(TimerQueue::Clock::time_point until);

 private:
  struct Lane {
    std::size_t failures = 0;
  };
  void next(std::shared_ptr<Lane> lane);
  void poll(std::shared_ptr<Lane> lane, Permit permit);
  void answered(const std::shared_ptr<Lane>& lane, std::size_t id, CallStatus status,
                MessagePtr response, Permit permit, TimerQueue::Clock::time_point began);
  void back_off(const std::shared_ptr<Lane>& lane, const CallStatus& status,
                TimerQueue::Clock::time_point began);
  bool stopping() const;
  void opened();
  // Moves the number of polls that are wanted, and starts those that are missing.
  void scale(int by);
  // True if there are more than are wanted: then the caller's lane ends.
  bool one_too_many();
  std::size_t wanted() const;

  const std::shared_ptr<const CallEnvironment> environment_;
  const std::shared_ptr<SlotPool> slots_;
  const Settings settings_;
  mutable std::mutex mutex_;
  std::condition_variable closed_;
  std::unordered_map<std::size_t, std::shared_ptr<PendingCall>> open_;
  std::size_t next_id_ = 0;
  std::size_t lanes_ = 0;            // polls that are open or about to be
  std::size_t wanted_ = 0;           // how many there should be
  std::atomic<bool> hinted_{false};  // the server has had an opinion: without one, nothing shrinks
  bool stopping_ = false;
  bool cancelling_ = false;
};

}  // namespace tempora::pollers
