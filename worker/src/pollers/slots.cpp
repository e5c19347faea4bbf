#include "slots.hpp"

namespace tempora::pollers {

void Permit::release() {
  if (pool_ == nullptr) return;
  const std::shared_ptr<SlotPool> pool = std::move(pool_);
  pool_ = nullptr;
  pool->give_back();
}

bool SlotPool::may_grant() const {
  if (free_ == 0) return false;
  return gate_.open == nullptr || capacity_ - free_ < gate_.least || gate_.open();
}

std::optional<Permit> SlotPool::try_reserve() {
  const std::lock_guard lock{mutex_};
  if (closed_ || !waiters_.empty() || !may_grant()) return std::nullopt;
  --free_;
  changed();
  return Permit{shared_from_this()};
}

void SlotPool::reserve(Waiter ready) {
  {
    const std::lock_guard lock{mutex_};
    if (closed_) return;
    if (!waiters_.empty() || !may_grant()) {
      waiters_.push_back(std::move(ready));
      if (free_ > 0) look_again();
      return;
    }
    --free_;
    changed();
  }
  ready(Permit{shared_from_this()});
}

SlotPool::Waiter SlotPool::next_waiter() {
  if (closed_ || waiters_.empty()) return nullptr;
  if (!may_grant()) {
    if (free_ > 0) look_again();
    return nullptr;
  }
  --free_;
  changed();
  Waiter next = std::move(waiters_.front());
  waiters_.pop_front();
  return next;
}

// Under the lock. Nobody tells when the gate opens.
void SlotPool::look_again() {
  if (will_look_ || gate_.later == nullptr) return;
  will_look_ = true;
  gate_.later([weak = weak_from_this()] {
    const auto self = weak.lock();
    if (self == nullptr) return;
    std::unique_lock lock{self->mutex_};
    self->will_look_ = false;
    while (Waiter next = self->next_waiter()) {
      lock.unlock();
      next(Permit{self});
      lock.lock();
    }
  });
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
    ++free_;
    next = next_waiter();
    if (next == nullptr) {
      changed();
      if (free_ == capacity_) idle_.notify_all();
    }
  }
  if (next != nullptr) next(Permit{shared_from_this()});
}

}  // namespace tempora::pollers
