#include "thread_pool.hpp"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

namespace tempora::pollers {

// Threads are detached and hold the state, so that one that never returns
// cannot hold up the end of the process.
struct ThreadPool::State {
  std::mutex mutex;
  std::condition_variable work;
  std::condition_variable ended;
  std::deque<Job> jobs;
  std::size_t max_threads = 1;
  std::size_t threads = 0;
  std::size_t idle = 0;
  bool stopping = false;
};

ThreadPool::ThreadPool(std::size_t max_threads) : state_(std::make_shared<State>()) {
  state_->max_threads = max_threads > 0 ? max_threads : 1;
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::post(Job job) {
  const std::lock_guard lock{state_->mutex};
  if (state_->stopping) return;
  state_->jobs.push_back(std::move(job));
  if (state_->idle >= state_->jobs.size() || state_->threads == state_->max_threads) {
    state_->work.notify_one();
    return;
  }
  add_thread(state_);
}

void ThreadPool::replace_one() {
  const std::lock_guard lock{state_->mutex};
  if (state_->stopping) return;
  ++state_->max_threads;
  add_thread(state_);
}

// Under its lock. Where the system gives no more threads, those that are there do the work.
void ThreadPool::add_thread(const std::shared_ptr<State>& state) {
  try {
    std::thread{&ThreadPool::loop, state}.detach();
    ++state->threads;
  } catch (const std::system_error&) {
    if (state->threads == 0) throw;
  }
}

void ThreadPool::replaced_one_is_back() {
  const std::lock_guard lock{state_->mutex};
  --state_->max_threads;
  state_->work.notify_one();
}

bool ThreadPool::stop(std::chrono::steady_clock::time_point until) {
  std::deque<Job> dropped;
  std::unique_lock lock{state_->mutex};
  state_->stopping = true;
  dropped.swap(state_->jobs);
  state_->work.notify_all();
  const bool ended = state_->ended.wait_until(lock, until, [this] { return state_->threads == 0; });
  lock.unlock();
  return ended;
}

void ThreadPool::loop(std::shared_ptr<State> state) {
  std::unique_lock lock{state->mutex};
  while (!state->stopping && state->threads <= state->max_threads) {
    if (state->jobs.empty()) {
      ++state->idle;
      state->work.wait(lock);
      --state->idle;
      continue;
    }
    Job job = std::move(state->jobs.front());
    state->jobs.pop_front();
    lock.unlock();
    job();
    job = nullptr;
    lock.lock();
  }
  if (--state->threads == 0) state->ended.notify_all();
}

}  // namespace tempora::pollers
