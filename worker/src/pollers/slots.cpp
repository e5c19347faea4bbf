#include "slots.hpp"

namespace tempora::pollers {

void Permit::release() {
  if (pool_ == nullptr) return;
  const std::shared_ptr<SlotPool> pool = std::move(pool_);
  pool_ = nullptr;
  pool->give_back();
}

std::optional<Permit> SlotPool::try_reserve() {
  const std::lock_guard lock{mutex_};
  if (closed_ || free_ == 0 || !waiters_.empty()) return std::nullopt;
  --free_;
  return Permit{shared_from_this()};
}

void SlotPool::reserve(Waiter ready) {
  {
    const std::lock_guard lock{mutex_};
    if (closed_) return;
    if (free_ == 0) {
      waiters_.push_back(std::move(ready));
      return;
    }
    --free_;
  }
  ready(Permit{shared_from_this()});
}

void SlotPool::close() {
  std::deque<Waiter> dropped;
  const std::lock_guard lock{mutex_};
  closed_ = true;
  dropped.swap(waiters_);
}

bool SlotPool::wait_idle(TimerQueue::Clock::time_point until) {
  std::unique_lock lock{mutex_};
  return idle_.wait_until(lock, until, [this] { return free_ == capacity_; });
}

std::size_t SlotPool::used() const {
  const std::lock_guard lock{mutex_};
  return capacity_ - free_;
}

void SlotPool::give_back() {
  Waiter next;
  {
    const std::lock_guard lock{mutex_};
    if (waiters_.empty() || closed_) {
      ++free_;
      if (free_ == capacity_) idle_.notify_all();
      return;
    }
    next = std::move(waiters_.front());
    waiters_.pop_front();
  }
  next(Permit{shared_from_this()});
}

}  // namespace tempora::pollers
