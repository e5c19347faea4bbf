// What an activity sees: who called it, how long it may take, whether it should
// stop, and how it reports progress.
#pragma once

#include <temporal/api/common/v1/message.pb.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <tempora/activity_type.hpp>
#include <tempora/logging.hpp>
#include <tempora/payload.hpp>
#include <tempora/time.hpp>
#include <type_traits>
#include <utility>
#include <vector>

namespace tempora {

struct ActivityInfo {
  std::string activity_id;
  std::string activity_type;
  std::string workflow_namespace;
  std::string workflow_id;
  std::string run_id;
  std::string workflow_type;
  std::string task_queue;
  int attempt = 1;
  TimePoint scheduled_time{};                  // of the first attempt
  TimePoint current_attempt_scheduled_time{};  // of this attempt
  TimePoint started_time{};
  Duration schedule_to_close{};  // zero: none
  Duration start_to_close{};     // zero: none
  Duration heartbeat{};          // zero: none; without it a heartbeat is only sent every 30 s
  std::string task_token;        // for completion from elsewhere
  std::map<std::string, Payload> headers;  // as they came; see interceptor.hpp
};

// Why an activity should stop. Several may hold at once.
enum class CancelReason : unsigned {
  kRequested = 1,       // the workflow, or somebody, asked for it
  kNotFound = 2,        // the server no longer knows this attempt: no answer will be taken
  kTimedOut = 4,        // a time-out of this attempt has passed
  kWorkerShutdown = 8,  // this worker stops; the activity will be retried elsewhere
  kPaused = 16,         // an operator paused the activity
  kReset = 32,          // an operator reset it: attempts count anew
};

class CancelReasons {
 public:
  constexpr bool has(CancelReason reason) const {
    return (bits_ & static_cast<unsigned>(reason)) != 0;
  }
  constexpr bool any() const { return bits_ != 0; }
  constexpr unsigned bits() const { return bits_; }
  constexpr explicit CancelReasons(unsigned bits = 0) : bits_(bits) {}

 private:
  unsigned bits_;
};

// Thrown by an activity that stops because it was asked to
// (`ActivityContext::throw_if_cancelled`).
class ActivityCancelled : public std::exception {
 public:
  const char* what() const noexcept override { return "activity cancelled"; }
};

// Thrown by an activity whose answer will come from elsewhere, by its task
// token or its ids.
class CompleteElsewhere : public std::exception {
 public:
  const char* what() const noexcept override { return "the activity will be completed elsewhere"; }
};

namespace detail {
class ActivityState;
}

// Valid while the activity runs. All members may be called from any thread of
// the activity.
class ActivityContext {
 public:
  // A context without a server behind it, for tests of activities: heartbeats
  // are kept and readable.
  explicit ActivityContext(ActivityInfo info);
  explicit ActivityContext(std::shared_ptr<detail::ActivityState> state);  // made by the worker
  ~ActivityContext();
  ActivityContext(const ActivityContext&) = delete;
  ActivityContext& operator=(const ActivityContext&) = delete;

  const ActivityInfo& info() const;

  // Tells the server that the activity lives, with details that the next
  // attempt can read. Never blocks: beats are thinned to 0.8 of the heartbeat
  // time-out and the newest details win. A request to cancel arrives only this
  // way.
  template <class... D>
  void heartbeat(const D&... details) {
    heartbeat_payloads(encode_all(details...));
  }
  void heartbeat_payloads(Payloads details);

  // The details of the last heartbeat of an earlier attempt. Throws
  // `PayloadError` if they are of another type.
  template <class T>
  std::optional<T> heartbeat_details(std::size_t index = 0) const {
    const Payloads& details = earlier_details();
    if (index >= static_cast<std::size_t>(details.payloads_size())) return std::nullopt;
    return PayloadCodec<T>::decode(details.payloads(static_cast<int>(index)));
  }
  const Payloads& earlier_details() const;
  // The details last given to `heartbeat` in this attempt.
  Payloads latest_details() const;

  bool cancelled() const { return cancel_reasons().any(); }
  CancelReasons cancel_reasons() const;
  std::stop_token stop_token() const;
  void throw_if_cancelled() const {
    if (cancelled()) throw ActivityCancelled{};
  }
  // Waits until the activity should stop, at most `at_most`; true if it should.
  bool wait_cancelled(Duration at_most) const;
  // Ends the function without an answer: it will come from elsewhere (`Client::async_activity`).
  // Give `info().task_token` away before. The newest heartbeat, if it is held back, goes out now;
  // nobody waits for it.
  [[noreturn]] void complete_later() const { throw CompleteElsewhere{}; }
  // Called by the worker; tests call it to see an activity stop.
  void request_cancel(CancelReason reason);

  // The earlier of started + start_to_close and scheduled + schedule_to_close;
  // `TimePoint::max()` without either.
  TimePoint deadline() const;
  // Time left until `deadline()`, never negative; `Duration::max()` without a
  // deadline.
  Duration time_left() const;

  Logger log() const;

 private:
  std::shared_ptr<detail::ActivityState> state_;
};

// The erased form of a registered activity: arguments in, result out; failures
// by exception.
using ActivityFunction = std::function<Payloads(ActivityContext&, const Payloads&)>;

// Wraps a typed function. A missing argument is a default value
// (`decode_argument`).
template <class I, class O, class F>
ActivityFunction erase_activity(F function) {
  return [function = std::move(function)](ActivityContext& context, const Payloads& arguments) {
    const auto call = [&]() -> decltype(auto) {
      if constexpr (std::is_void_v<I>) {
        return function(context);
      } else {
        const I input = decode_argument<I>(arguments);
        return function(context, input);
      }
    };
    if constexpr (std::is_void_v<O>) {
      call();
      return encode_all();
    } else {
      const O result = call();
      return encode_all(result);
    }
  };
}

}  // namespace tempora
