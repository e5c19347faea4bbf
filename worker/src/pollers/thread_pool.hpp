// Threads that run jobs in the order given. Grows on demand up to a limit and
// keeps its threads.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>

namespace tempora::pollers {

class ThreadPool {
 public:
  using Job = std::move_only_function<void()>;

  explicit ThreadPool(std::size_t max_threads);
  ~ThreadPool();  // as `stop` with no time
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // Jobs must not throw. Ignored after `stop`. Throws `std::system_error` if the system gives not
  // even one thread.
  void post(Job job);
  // One more thread, for one whose job does not return; the other one ends when it does.
  void replace_one();
  void replaced_one_is_back();
  // Drops jobs that have not begun and waits for those that have, until
  // `until`. A thread that is still busy then is left to itself: it ends when
  // its job returns. False if such a thread was left.
  bool stop(std::chrono::steady_clock::time_point until = std::chrono::steady_clock::now());

 private:
  struct State;
  static void add_thread(const std::shared_ptr<State>& state);
  static void loop(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
};

}  // namespace tempora::pollers
