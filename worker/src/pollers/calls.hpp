// Calls to the Temporal service as the worker makes them: asynchronous, each
// message owned by the call, retried with back-off where a retry is safe.
#pragma once

#include <google/protobuf/message.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "../transport/transport.hpp"
#include "timer_queue.hpp"

namespace tempora::pollers {

// The gRPC codes that decide anything here.
enum Code : int {
  kOk = 0,
  kCancelled = 1,
  kUnknown = 2,
  kInvalidArgument = 3,
  kDeadlineExceeded = 4,
  kNotFound = 5,
  kPermissionDenied = 7,
  kResourceExhausted = 8,
  kAborted = 10,
  kOutOfRange = 11,
  kUnimplemented = 12,
  kInternal = 13,
  kUnavailable = 14,
  kDataLoss = 15,
};

// True for codes after which the same call may succeed later.
bool is_retryable(const CallStatus& status);
// A RESOURCE_EXHAUSTED that says the message itself is too large: no retry will
// help.
bool is_message_too_large(const CallStatus& status);
// 1.0 ± `spread`, so that many workers do not come back in step.
double jitter(double spread);

struct RetryLimits {
  std::chrono::milliseconds attempt_deadline{30'000};
  TimerQueue::Clock::time_point give_up_at;  // no attempt starts after this
  int max_attempts = 10;
  bool retry_deadline_exceeded = false;
};

// What a call needs and all calls of a worker share.
struct CallEnvironment {
  std::shared_ptr<Transport> transport;
  std::shared_ptr<TimerQueue> timers;
  CallOptions options;  // metadata of every call
};

using UntypedDone = std::move_only_function<void(CallStatus, google::protobuf::Message&)>;

void start_retrying(std::shared_ptr<const CallEnvironment> environment, std::string method,
                    std::unique_ptr<google::protobuf::Message> request,
                    std::unique_ptr<google::protobuf::Message> response, RetryLimits limits,
                    UntypedDone done);

// `done(status, response)` runs exactly once on a thread of the transport or of
// the timers, unless the environment's timers are destroyed during a back-off.
template <class Response, class Request, class Done>
void call_retrying(std::shared_ptr<const CallEnvironment> environment, std::string_view rpc,
                   Request request, RetryLimits limits, Done done) {
  start_retrying(
      std::move(environment),
      "/temporal.api.workflowservice.v1.WorkflowService/" + std::string{rpc},
      std::make_unique<Request>(std::move(request)), std::make_unique<Response>(), limits,
      [done = std::move(done)](CallStatus status, google::protobuf::Message& response) mutable {
        done(std::move(status), static_cast<Response&>(response));
      });
}

}  // namespace tempora::pollers
