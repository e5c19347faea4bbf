// The right to hold one task. A slot is taken before its poll starts and is
// kept until the answer's call has returned, so that no task arrives which
// nobody can run.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "../transport/timer_queue.hpp"

namespace tempora::pollers {

class SlotPool;

// Releases its slot when destroyed. Move-only.
class Permit {
 public:
  Permit() = default;
  Permit(Permit&& other) noexcept : pool_(std::move(other.pool_)) { other.pool_ = nullptr; }
  Permit& operator=(Permit&& other) noexcept {
    if (this != &other) {
      release();
      pool_ = std::move(other.pool_);
      other.pool_ = nullptr;
    }
    return *this;
  }
  ~Permit() { release(); }
  explicit operator bool() const { return pool_ != nullptr; }
  void release();

 private:
  friend class SlotPool;
  explicit Permit(std::shared_ptr<SlotPool> pool) : pool_(std::move(pool)) {}
  std::shared_ptr<SlotPool> pool_;
};

// Something beside their number that may hold slots back.
struct SlotGate {
  std::function<bool()> open{};  // null: always. Called under the pool's lock.
  std::size_t least = 1;         // so many are granted all the same
  // Calls back somewhat later; whoever waits is looked at again then.
  std::function<void(std::function<void()>)> later{};
};

class SlotPool : public std::enable_shared_from_this<SlotPool> {
 public:
  using Waiter = std::move_only_function<void(Permit)>;

  // Told of each change, under the pool's lock: it must not block and not use the pool.
  using OnChange = std::function<void(std::size_t used, std::size_t free)>;

  explicit SlotPool(std::size_t capacity, OnChange on_change = nullptr, SlotGate gate = {})
      : on_change_(std::move(on_change)),
        gate_(std::move(gate)),
        free_(capacity),
        capacity_(capacity) {
    changed();
  }

  // A slot, unless all are taken or somebody waits already.
  std::optional<Permit> try_reserve();
  // Calls `ready` with a slot, at once or when one is released; first come,
  // first served.
  void reserve(Waiter ready);
  // Forgets all waiters and grants nothing more.
  void close();
  // Waits until every slot is free. False if `until` came first.
  bool wait_idle(TimerQueue::Clock::time_point until);

  std::size_t capacity() const { return capacity_; }
  std::size_t used() const;

 private:
  friend class Permit;
  void give_back();
  bool may_grant() const;
  // Under the lock: the next one who waits and may have a slot, or null.
  Waiter next_waiter();
  void look_again();
  void changed() const {
    if (on_change_) on_change_(capacity_ - free_, free_);
  }

  const OnChange on_change_;
  const SlotGate gate_;
  mutable std::mutex mutex_;
  std::condition_variable idle_;
  std::deque<Waiter> waiters_;
  std::size_t free_;
  const std::size_t capacity_;
  bool closed_ = false;
  bool will_look_ = false;
};

}  // namespace tempora::pollers
