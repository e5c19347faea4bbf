#include "addrflow/netbox/breaker.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

namespace addrflow::netbox {

Breaker::Breaker(BreakerOptions options, Now now) : options_(options), now_(std::move(now)) {}

bool Breaker::may_send() {
  const std::lock_guard lock{mutex_};
  if (state_ == State::kClosed) return true;
  if (state_ == State::kOpen && now_() - opened_ < options_.rest) return false;
  state_ = State::kHalfOpen;
  return !std::exchange(probing_, true);
}

void Breaker::answered() {
  const std::lock_guard lock{mutex_};
  if (state_ != State::kClosed) spdlog::info("NetBox answers again: its effects go on");
  state_ = State::kClosed;
  probing_ = false;
  failures_ = 0;
}

void Breaker::failed(std::string why) {
  const std::lock_guard lock{mutex_};
  ++failures_;
  why_ = std::move(why);
  const bool opens = state_ == State::kHalfOpen || failures_ >= options_.failures;
  probing_ = false;
  if (!opens) return;
  if (state_ == State::kClosed) {
    spdlog::warn("NetBox failed {} times in a row ({}): left alone, asked once every {} ms",
                 failures_, why_, options_.rest.count());
  }
  state_ = State::kOpen;
  opened_ = now_();
}

void Breaker::not_sent() {
  const std::lock_guard lock{mutex_};
  probing_ = false;
}

Breaker::Look Breaker::look() const {
  const std::lock_guard lock{mutex_};
  Look look{.state = state_, .failures = failures_, .why = why_, .rest = {}};
  if (state_ == State::kOpen) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(opened_ + options_.rest - now_());
    look.rest = std::max(left, std::chrono::milliseconds{0});
    if (look.rest.count() == 0) look.state = State::kHalfOpen;
  }
  return look;
}

std::string_view to_string(Breaker::State state) {
  switch (state) {
    case Breaker::State::kClosed: return "closed";
    case Breaker::State::kOpen: return "open";
    case Breaker::State::kHalfOpen: return "half-open";
  }
  return "closed";
}

}  // namespace addrflow::netbox
