// Stops asking a NetBox that keeps failing, and finds out with one request at a time whether it is
// back.
#pragma once

#include <addrflow/netbox/http.hpp>
#include <chrono>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>

namespace addrflow::netbox {

struct BreakerOptions {
  int failures = 5;  // in a row, until it opens
  std::chrono::milliseconds rest{15'000};
};

// Thread-safe.
class Breaker {
 public:
  using Now = std::function<Clock::time_point()>;
  enum class State { kClosed, kOpen, kHalfOpen };

  explicit Breaker(BreakerOptions options = {}, Now now = [] { return Clock::now(); });

  // False: do not send. After the rest it lets one request through, until that one's outcome.
  bool may_send();
  // The request was answered at all; a refusal is an answer too.
  void answered();
  void failed(std::string why);
  // The request never left for a reason of our own: it says nothing of NetBox.
  void not_sent();

  struct Look {
    State state = State::kClosed;
    int failures = 0;
    std::string why;                    // of the last failure
    std::chrono::milliseconds rest{0};  // until a request may go
  };
  Look look() const;

 private:
  const BreakerOptions options_;
  const Now now_;
  mutable std::mutex mutex_;
  State state_ = State::kClosed;
  bool probing_ = false;
  int failures_ = 0;
  std::string why_;
  Clock::time_point opened_;
};

std::string_view to_string(Breaker::State state);

}  // namespace addrflow::netbox
