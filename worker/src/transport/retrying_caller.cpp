#include "retrying_caller.hpp"

#include <algorithm>
#include <cmath>
#include <latch>
#include <mutex>
#include <optional>
#include <random>
#include <thread>

#include "timer_queue.hpp"

namespace tempora {

using std::chrono::milliseconds;

namespace {

constexpr milliseconds kFirstPause{100};
constexpr double kPauseFactor = 1.7;
constexpr milliseconds kLongestPause{5'000};
constexpr milliseconds kFirstThrottledPause{1'000};
constexpr milliseconds kLongestThrottledPause{10'000};

class SteadyCallClock final : public CallClock {
 public:
  Time now() override { return std::chrono::steady_clock::now(); }
  void sleep_for(milliseconds pause) override { std::this_thread::sleep_for(pause); }
  void after(milliseconds pause, std::function<void()> callback) override {
    std::call_once(timers_made_, [this] { timers_ = std::make_unique<TimerQueue>(); });
    timers_->after(pause, std::move(callback));
  }
  double jitter() override {
    thread_local std::minstd_rand generator{std::random_device{}()};
    return std::uniform_real_distribution<double>{0.8, 1.2}(generator);
  }

 private:
  std::once_flag timers_made_;  // blocking callers need no timer thread
  std::unique_ptr<TimerQueue> timers_;
};

// The decisions of one call, shared by its blocking and its asynchronous form.
class Attempts {
 public:
  Attempts(CallPlan plan, std::shared_ptr<CallClock> clock, bool internal_is_final)
      : plan_(plan),
        clock_(std::move(clock)),
        give_up_at_(clock_->now() + plan.budget),
        internal_is_final_(internal_is_final) {}

  CallOptions next(const std::vector<std::pair<std::string, std::string>>& metadata) {
    ++end_.attempts;
    const auto left = std::chrono::ceil<milliseconds>(give_up_at_ - clock_->now());
    return {.deadline = std::max(milliseconds{1}, std::min(plan_.attempt_deadline, left)),
            .metadata = metadata};
  }

  // The pause before the next attempt; nothing if the call has ended.
  std::optional<milliseconds> ended(CallStatus status) {
    end_.unanswered = !status.ok() && (end_.unanswered || may_have_arrived(status));
    end_.status = std::move(status);
    if (end_.ok() || !again()) return std::nullopt;
    const auto pause = milliseconds{std::llround(
        static_cast<double>(pause_after(end_.attempts, end_.status).count()) * clock_->jitter())};
    if (clock_->now() + pause >= give_up_at_) return std::nullopt;
    return pause;
  }

  CallEnd take() { return std::move(end_); }

 private:
  bool again() const {
    if (plan_.max_attempts > 0 && end_.attempts >= plan_.max_attempts) return false;
    if (end_.status.code == grpc_code::kDeadlineExceeded) return plan_.retry_deadline_exceeded;
    return is_retryable(end_.status, internal_is_final_);
  }

  const CallPlan plan_;
  const std::shared_ptr<CallClock> clock_;
  const CallClock::Time give_up_at_;
  const bool internal_is_final_;
  CallEnd end_;
};

class AsyncCall final : public PendingCall, public std::enable_shared_from_this<AsyncCall> {
 public:
  AsyncCall(std::shared_ptr<Transport> transport, std::shared_ptr<CallClock> clock,
            std::string_view method, const google::protobuf::Message& request,
            google::protobuf::Message* response, Attempts attempts,
            std::vector<std::pair<std::string, std::string>> metadata,
            std::function<void(CallEnd)> done)
      : transport_(std::move(transport)),
        clock_(std::move(clock)),
        method_(method),
        request_(request),
        response_(response),
        attempts_(std::move(attempts)),
        metadata_(std::move(metadata)),
        done_(std::move(done)) {}

  void attempt() {
    response_->Clear();
    auto pending = transport_->start(
        method_, request_, response_, attempts_.next(metadata_),
        [self = shared_from_this()](CallStatus status) { self->ended(std::move(status)); });
    const std::lock_guard lock{mutex_};
    if (cancelled_ && pending) pending->cancel();
    pending_ = std::move(pending);
  }

  void cancel() override {
    const std::lock_guard lock{mutex_};
    cancelled_ = true;
    if (pending_) pending_->cancel();
  }

 private:
  void ended(CallStatus status) {
    const auto pause = attempts_.ended(std::move(status));
    if (!pause || cancelled()) return finish();
    clock_->after(*pause, [self = shared_from_this()] {
      self->cancelled() ? self->finish() : self->attempt();
    });
  }

  bool cancelled() {
    const std::lock_guard lock{mutex_};
    return cancelled_;
  }

  void finish() { std::exchange(done_, nullptr)(attempts_.take()); }

  const std::shared_ptr<Transport> transport_;
  const std::shared_ptr<CallClock> clock_;
  const std::string method_;
  const google::protobuf::Message& request_;
  google::protobuf::Message* const response_;
  Attempts attempts_;
  const std::vector<std::pair<std::string, std::string>> metadata_;
  std::function<void(CallEnd)> done_;
  std::mutex mutex_;
  std::shared_ptr<PendingCall> pending_;
  bool cancelled_ = false;
};

// Shared, so that the thread that brings the answer may still be leaving when the caller goes on.
struct Answer {
  CallStatus status;
  std::latch there{1};
};

}  // namespace

std::shared_ptr<CallClock> steady_call_clock() {
  static const auto clock = std::make_shared<SteadyCallClock>();
  return clock;
}

bool is_message_too_large(const CallStatus& status) {
  if (status.code != grpc_code::kResourceExhausted) return false;
  const std::string_view text = status.message;
  return text.starts_with("grpc: received message larger than max") ||
         text.starts_with("grpc: message after decompression larger than max") ||
         text.starts_with("grpc: received message after decompression larger than max") ||
         // gRPC C++'s own limit, on this side
         text.starts_with("Received message larger than max") ||
         text.starts_with("Sent message larger than max");
}

bool is_invalid_text(const CallStatus& status) {
  return status.code == grpc_code::kInternal &&
         status.message.find("invalid UTF-8") != std::string::npos;
}

bool is_retryable(const CallStatus& status, bool internal_is_final) {
  switch (status.code) {
    case grpc_code::kUnavailable:
    case grpc_code::kAborted:
    case grpc_code::kUnknown:
    case grpc_code::kDataLoss:
    case grpc_code::kOutOfRange:
    // Not by this process: a server that stops, or that gave a query to a poll that was ending.
    case grpc_code::kCancelled: return true;
    case grpc_code::kInternal: return !internal_is_final && !is_invalid_text(status);
    case grpc_code::kResourceExhausted: return !is_message_too_large(status);
    default: return false;
  }
}

bool may_have_arrived(const CallStatus& status) {
  switch (status.code) {
    case grpc_code::kUnavailable: {
      // Only what failed before a connection was there is sure to have stayed here.
      const std::string_view text = status.message;
      return !text.starts_with("connections to all backends failing") &&
             !text.starts_with("failed to connect to all addresses") &&
             !text.starts_with("DNS resolution failed") && !text.starts_with("empty address list");
    }
    case grpc_code::kCancelled:
    case grpc_code::kDeadlineExceeded:
    case grpc_code::kUnknown:
    case grpc_code::kInternal:
    case grpc_code::kDataLoss: return true;
    default: return false;
  }
}

milliseconds pause_after(int attempt, const CallStatus& status) {
  const int exponent = std::min(attempt - 1, 16);
  double pause = static_cast<double>(kFirstPause.count()) * std::pow(kPauseFactor, exponent);
  pause = std::min(pause, static_cast<double>(kLongestPause.count()));
  if (status.code == grpc_code::kResourceExhausted) {
    const double throttled =
        std::ldexp(static_cast<double>(kFirstThrottledPause.count()), exponent);
    pause =
        std::max(pause, std::min(throttled, static_cast<double>(kLongestThrottledPause.count())));
  }
  return milliseconds{std::llround(pause)};
}

RetryingCaller::RetryingCaller(std::shared_ptr<Transport> transport,
                               std::vector<std::pair<std::string, std::string>> metadata,
                               std::shared_ptr<CallClock> clock)
    : transport_(std::move(transport)), metadata_(std::move(metadata)), clock_(std::move(clock)) {}

CallEnd RetryingCaller::call(std::string_view method, const google::protobuf::Message& request,
                             google::protobuf::Message* response, const CallPlan& plan) const {
  Attempts attempts{plan, clock_, internal_is_final_->load()};
  for (;;) {
    response->Clear();
    const auto answer = std::make_shared<Answer>();
    const auto pending = transport_->start(method, request, response, attempts.next(metadata_),
                                           [answer](CallStatus status) {
                                             answer->status = std::move(status);
                                             answer->there.count_down();
                                           });
    answer->there.wait();
    const auto pause = attempts.ended(std::move(answer->status));
    if (!pause) return attempts.take();
    clock_->sleep_for(*pause);
  }
}

std::shared_ptr<PendingCall> RetryingCaller::start(std::string_view method,
                                                   const google::protobuf::Message& request,
                                                   google::protobuf::Message* response,
                                                   const CallPlan& plan,
                                                   std::function<void(CallEnd)> done) const {
  auto call = std::make_shared<AsyncCall>(transport_, clock_, method, request, response,
                                          Attempts{plan, clock_, internal_is_final_->load()},
                                          metadata_, std::move(done));
  call->attempt();
  return call;
}

}  // namespace tempora
