// At most so many activities of a type at once. What is above waits its turn in the order in which
// it came.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <utility>

namespace tempora::activity {

class TypeLimits {
 public:
  using Job = std::function<void()>;

  explicit TypeLimits(const std::map<std::string, std::size_t>& limits) : any_(!limits.empty()) {
    for (const auto& [type, limit] : limits) types_[type].free = limit;
  }

  // Runs `job` now or when `ended` makes room for it. Types without a limit run now.
  void run(const std::string& type, Job job) {
    if (any_) {
      const std::lock_guard lock{mutex_};
      const auto found = types_.find(type);
      if (found != types_.end()) {
        if (found->second.free == 0) return found->second.waiting.push_back(std::move(job));
        --found->second.free;
      }
    }
    job();
  }

  // Forgets what waits.
  void clear() {
    std::map<std::string, Type> gone;
    const std::lock_guard lock{mutex_};
    gone.swap(types_);
  }

  // Once for each job that ran.
  void ended(const std::string& type) {
    if (!any_) return;
    Job next;
    {
      const std::lock_guard lock{mutex_};
      const auto found = types_.find(type);
      if (found == types_.end()) return;
      if (found->second.waiting.empty()) {
        ++found->second.free;
        return;
      }
      next = std::move(found->second.waiting.front());
      found->second.waiting.pop_front();
    }
    next();
  }

 private:
  struct Type {
    std::size_t free = 0;
    std::deque<Job> waiting;
  };
  const bool any_;  // without limits nobody waits for the lock either
  std::mutex mutex_;
  std::map<std::string, Type> types_;
};

}  // namespace tempora::activity
