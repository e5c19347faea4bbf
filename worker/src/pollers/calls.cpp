#include "calls.hpp"

#include <algorithm>
#include <cmath>
#include <random>

namespace tempora::pollers {

namespace {

constexpr std::chrono::milliseconds kFirstPause{100};
constexpr std::chrono::milliseconds kLongestPause{5'000};
constexpr std::chrono::milliseconds kThrottledPause{1'000};
constexpr std::chrono::milliseconds kLongestThrottledPause{10'000};
constexpr double kPauseFactor = 1.7;

// One logical call: it owns its messages and lives until `done` has run.
class RetryingCall : public std::enable_shared_from_this<RetryingCall> {
 public:
  RetryingCall(std::shared_ptr<const CallEnvironment> environment, std::string method,
               std::unique_ptr<google::protobuf::Message> request,
               std::unique_ptr<google::protobuf::Message> response, RetryLimits limits,
               UntypedDone done)
      : environment_(std::move(environment)),
        method_(std::move(method)),
        request_(std::move(request)),
        response_(std::move(response)),
        limits_(limits),
        done_(std::move(done)) {}

  void attempt() {
    ++attempts_;
    response_->Clear();
    CallOptions options = environment_->options;
    options.deadline = limits_.attempt_deadline;
    environment_->transport->start(
        method_, *request_, response_.get(), std::move(options),
        [self = shared_from_this()](CallStatus status) { self->ended(std::move(status)); });
  }

 private:
  void ended(CallStatus status) {
    if (status.ok() || !may_retry(status)) return finish(std::move(status));
    const auto wait = pause(status);
    if (attempts_ >= limits_.max_attempts ||
        TimerQueue::Clock::now() + wait >= limits_.give_up_at) {
      return finish(std::move(status));
    }
    environment_->timers->after(wait, [self = shared_from_this()] { self->attempt(); });
  }

  bool may_retry(const CallStatus& status) const {
    return is_retryable(status) ||
           (limits_.retry_deadline_exceeded && status.code == kDeadlineExceeded);
  }

  std::chrono::milliseconds pause(const CallStatus& status) const {
    double ms = static_cast<double>(kFirstPause.count()) *
                std::pow(kPauseFactor, std::min(attempts_ - 1, 16));
    ms = std::min(ms, static_cast<double>(kLongestPause.count()));
    if (status.code == kResourceExhausted) {
      const double throttled =
          std::ldexp(static_cast<double>(kThrottledPause.count()), std::min(attempts_ - 1, 8));
      ms = std::max(ms, std::min(throttled, static_cast<double>(kLongestThrottledPause.count())));
    }
    return std::chrono::milliseconds{static_cast<long>(ms * jitter(0.2))};
  }

  void finish(CallStatus status) {
    UntypedDone done = std::move(done_);
    done_ = nullptr;
    done(std::move(status), *response_);
  }

  const std::shared_ptr<const CallEnvironment> environment_;
  const std::string method_;
  const std::unique_ptr<google::protobuf::Message> request_;
  const std::unique_ptr<google::protobuf::Message> response_;
  const RetryLimits limits_;
  UntypedDone done_;
  int attempts_ = 0;
};

}  // namespace

bool is_message_too_large(const CallStatus& status) {
  if (status.code != kResourceExhausted) return false;
  const std::string& text = status.message;
  return text.starts_with("grpc: received message larger than max") ||
         text.starts_with("grpc: message after decompression larger than max") ||
         text.starts_with("grpc: received message after decompression larger than max");
}

bool is_retryable(const CallStatus& status) {
  switch (status.code) {
    case kUnavailable:
    case kAborted:
    case kUnknown:
    case kInternal:
    case kDataLoss:
    case kOutOfRange: return true;
    case kResourceExhausted: return !is_message_too_large(status);
    default: return false;
  }
}

double jitter(double spread) {
  thread_local std::minstd_rand generator{std::random_device{}()};
  return std::uniform_real_distribution<double>{1.0 - spread, 1.0 + spread}(generator);
}

void start_retrying(std::shared_ptr<const CallEnvironment> environment, std::string method,
                    std::unique_ptr<google::protobuf::Message> request,
                    std::unique_ptr<google::protobuf::Message> response, RetryLimits limits,
                    UntypedDone done) {
  std::make_shared<RetryingCall>(std::move(environment), std::move(method), std::move(request),
                                 std::move(response), limits, std::move(done))
      ->attempt();
}

}  // namespace tempora::pollers
