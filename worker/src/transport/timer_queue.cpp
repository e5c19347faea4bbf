#include "timer_queue.hpp"

#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <utility>

namespace tempora {

// The thread holds the state itself: the last owner of the queue may go away
// inside a callback.
struct TimerQueue::State {
  using Key = std::pair<Clock::time_point, Id>;
  std::mutex mutex;
  std::condition_variable changed;
  std::map<Key, Callback> pending;
  std::unordered_map<Id, Clock::time_point> due;
  Id next_id = 1;
  bool stopping = false;
};

TimerQueue::TimerQueue() : state_(std::make_shared<State>()) {
  std::thread{&TimerQueue::loop, state_}.detach();
}

TimerQueue::~TimerQueue() {
  std::map<State::Key, Callback> dropped;  // destroyed after the lock
  const std::lock_guard lock{state_->mutex};
  state_->stopping = true;
  dropped.swap(state_->pending);
  state_->due.clear();
  state_->changed.notify_one();
}

TimerQueue::Id TimerQueue::after(Clock::duration delay, Callback callback) {
  const Clock::time_point due = Clock::now() + delay;
  const std::lock_guard lock{state_->mutex};
  const Id id = state_->next_id++;
  const auto [position, inserted] =
      state_->pending.emplace(State::Key{due, id}, std::move(callback));
  state_->due.emplace(id, due);
  if (position == state_->pending.begin()) state_->changed.notify_one();
  return id;
}

bool TimerQueue::cancel(Id id) {
  Callback dropped;  // destroyed after the lock: its captures may be the last
                     // owners of anything
  const std::lock_guard lock{state_->mutex};
  const auto found = state_->due.find(id);
  if (found == state_->due.end()) return false;
  const auto entry = state_->pending.find(State::Key{found->second, id});
  dropped = std::move(entry->second);
  state_->pending.erase(entry);
  state_->due.erase(found);
  return true;
}

void TimerQueue::loop(std::shared_ptr<State> state) {
  std::unique_lock lock{state->mutex};
  while (!state->stopping) {
    if (state->pending.empty()) {
      state->changed.wait(lock);
      continue;
    }
    const auto first = state->pending.begin();
    if (const Clock::time_point due = first->first.first; due > Clock::now()) {
      state->changed.wait_until(lock, due);
      continue;
    }
    Callback callback = std::move(first->second);
    state->due.erase(first->first.second);
    state->pending.erase(first);
    lock.unlock();
    callback();
    callback = nullptr;
    lock.lock();
  }
}

}  // namespace tempora
