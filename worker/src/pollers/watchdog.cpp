#include "watchdog.hpp"

#include <fmt/format.h>

#include <utility>
#include <vector>

namespace tempora::pollers {

namespace {

// Of a look that came late only so many intervals count.
constexpr int kMostBetween = 2;

std::string describe(const engine::Place& place) {
  if (place.what() == nullptr) return "since its beginning";
  return fmt::format("since {} ({}:{})", place.what(), place.file(), place.line());
}

}  // namespace

void Watchdog::start() {
  if (limit_ <= Clock::duration::zero() || stopped_) return;
  timers_->after(interval(), [weak = weak_from_this()] {
    const auto self = weak.lock();
    if (self == nullptr) return;
    self->look();
    self->start();
  });
}

void Watchdog::look() {
  std::vector<Stuck> stuck;
  {
    const std::lock_guard lock{mutex_};
    const Clock::time_point now = Clock::now();
    for (Watched& watched : watched_) {
      if (watched.reported) continue;
      const auto use = ThreadUse::of(watched.thread);
      if (const auto steps = watched.place->steps(); steps != watched.steps) {
        watched.steps = steps;
        watched.away.restart(now, use);
        continue;
      }
      const Clock::duration away = watched.away.look(now, use, kMostBetween * interval());
      if (away < limit_) continue;
      watched.reported = true;
      Stuck found;
      found.task.set_task_token(watched.task->task_token());
      found.task.set_attempt(watched.task->attempt());
      *found.task.mutable_workflow_type() = watched.task->workflow_type();
      *found.task.mutable_workflow_execution() = watched.task->workflow_execution();
      if (watched.task->has_query()) *found.task.mutable_query() = watched.task->query();
      found.place = describe(*watched.place);
      found.since = away;
      stuck.push_back(std::move(found));
    }
  }
  for (Stuck& each : stuck) report_(std::move(each));
}

Watchdog::Watch::Watch(Watchdog& dog, const PolledTask& task) : dog_(dog) {
  if (dog.limit_ <= Clock::duration::zero()) return;
  engine::Place& place = engine::Place::of_this_thread();
  place.clear();
  const std::lock_guard lock{dog.mutex_};
  place_ = dog.watched_.insert(
      dog.watched_.end(),
      Watched{.task = &task, .place = &place, .thread = ThreadUse::this_thread()});
}

bool Watchdog::Watch::end() {
  if (!place_.has_value()) return reported_;
  const std::lock_guard lock{dog_.mutex_};
  reported_ = (*place_)->reported;
  dog_.watched_.erase(*place_);
  place_.reset();
  return reported_;
}

}  // namespace tempora::pollers
