// Where the workflow code on this thread was last seen: the await that it went on from, or the
// operation that it began since. Written by the engine, read by whoever watches the thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <source_location>

namespace tempora::engine {

class Place {
 public:
  static Place& of_this_thread() {
    thread_local Place place;
    return place;
  }

  // `what` and the texts of a source location live as long as the program.
  void set(const char* what, std::source_location where) {
    what_.store(what, std::memory_order_relaxed);
    file_.store(where.file_name(), std::memory_order_relaxed);
    line_.store(where.line(), std::memory_order_relaxed);
  }
  // A coroutine goes on: a step, which is what a long replay makes many of and code that blocks
  // none.
  void go_on(const char* what, std::source_location where) {
    set(what, where);
    steps_.store(steps_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
  void clear() { what_.store(nullptr, std::memory_order_relaxed); }

  const char* what() const { return what_.load(std::memory_order_relaxed); }  // null: the beginning
  std::uint64_t steps() const { return steps_.load(std::memory_order_relaxed); }
  const char* file() const { return file_.load(std::memory_order_relaxed); }
  std::uint_least32_t line() const { return line_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> steps_{0};  // written by one thread only
  std::atomic<const char*> what_{nullptr};
  std::atomic<const char*> file_{""};
  std::atomic<std::uint_least32_t> line_{0};
};

}  // namespace tempora::engine
