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

class SlotPool : public std::enable_shared_from_this<SlotPool> {
 public:
  using Waiter = std::move_only_function<void(Permit)>;

  explicit SlotPool(std::size_t capacity) : free_(capacity), capacity_(capacity) {}

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

  mutable std::mutex mutex_;
  std::condition_variable idle_;
  std::deque<Waiter> waiters_;
  std::size_t free_;
  const std::size_t capacity_;
  bool closed_ = false;
};

}  // namespace tempora::pollers
