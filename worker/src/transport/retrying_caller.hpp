// A unary call with its retries: which codes are tried again, after what pause, and for how long.
#pragma once

#include <google/protobuf/message.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "transport.hpp"

namespace tempora {

namespace grpc_code {
enum : int {
  kOk = 0,
  kCancelled = 1,
  kUnknown = 2,
  kInvalidArgument = 3,
  kDeadlineExceeded = 4,
  kNotFound = 5,
  kAlreadyExists = 6,
  kPermissionDenied = 7,
  kResourceExhausted = 8,
  kFailedPrecondition = 9,
  kAborted = 10,
  kOutOfRange = 11,
  kUnimplemented = 12,
  kInternal = 13,
  kUnavailable = 14,
  kDataLoss = 15,
  kUnauthenticated = 16,
};
}  // namespace grpc_code

// Time as the retries see it; tests bring their own.
class CallClock {
 public:
  using Time = std::chrono::steady_clock::time_point;
  virtual ~CallClock() = default;
  virtual Time now() = 0;
  virtual void sleep_for(std::chrono::milliseconds pause) = 0;
  // Runs `callback` once, later, on a thread that must not be blocked.
  virtual void after(std::chrono::milliseconds pause, std::function<void()> callback) = 0;
  // 1.0 ± 20 %, so that many callers do not come back in step.
  virtual double jitter() = 0;
};

std::shared_ptr<CallClock> steady_call_clock();

struct CallPlan {
  std::chrono::milliseconds attempt_deadline{10'000};
  std::chrono::milliseconds budget{30'000};  // no attempt or pause reaches beyond it
  int max_attempts = 10;                     // zero: only the budget limits
  bool retry_deadline_exceeded = false;      // for calls that may be slow and are safe to repeat
};

// How a call ended, all attempts together.
struct CallEnd {
  CallStatus status;
  int attempts = 0;
  // Some attempt may have reached the server and got no answer: whether it took effect is not
  // known.
  bool unanswered = false;

  bool ok() const { return status.ok(); }
};

// Server may work on the call later with success. A call that was cancelled here is not asked
// about.
bool is_retryable(const CallStatus& status, bool internal_is_final = false);
// A RESOURCE_EXHAUSTED that means the message, not the rate: no retry will help.
bool is_message_too_large(const CallStatus& status);
// An INTERNAL that means a string which is not UTF-8: no retry will help.
bool is_invalid_text(const CallStatus& status);
// The attempt may have reached the server although no answer came.
bool may_have_arrived(const CallStatus& status);
// The pause after `attempt` (1 = the first) ended so, without jitter.
std::chrono::milliseconds pause_after(int attempt, const CallStatus& status);

class RetryingCaller {
 public:
  RetryingCaller(std::shared_ptr<Transport> transport,
                 std::vector<std::pair<std::string, std::string>> metadata,
                 std::shared_ptr<CallClock> clock = steady_call_clock());

  // Blocks. Make `request_id` and the like before: each attempt sends the same `request`.
  CallEnd call(std::string_view method, const google::protobuf::Message& request,
               google::protobuf::Message* response, const CallPlan& plan) const;

  // `request` and `response` must live until `done` ran, exactly once, on a thread that must not be
  // blocked. The returned handle cancels the attempt under way and those to come.
  std::shared_ptr<PendingCall> start(std::string_view method,
                                     const google::protobuf::Message& request,
                                     google::protobuf::Message* response, const CallPlan& plan,
                                     std::function<void(CallEnd)> done) const;

  // For servers that tell real bugs from passing trouble: INTERNAL is then never retried.
  void set_internal_is_final(bool value) const { internal_is_final_->store(value); }
  CallClock& clock() const { return *clock_; }
  const std::shared_ptr<Transport>& transport() const { return transport_; }

 private:
  std::shared_ptr<Transport> transport_;
  std::vector<std::pair<std::string, std::string>> metadata_;
  std::shared_ptr<CallClock> clock_;
  std::shared_ptr<std::atomic<bool>> internal_is_final_ =
      std::make_shared<std::atomic<bool>>(false);
};

}  // namespace tempora
