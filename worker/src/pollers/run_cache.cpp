#include "run_cache.hpp"

#include <algorithm>
#include <utility>

namespace tempora::pollers {

RunCache::Taken RunCache::take(WorkflowTask task) {
  const std::string& run_id = task.response->workflow_execution().run_id();
  std::optional<WorkflowTask> superseded;  // its slot is released after the lock
  const std::lock_guard lock{mutex_};
  const auto found = runs_.find(run_id);
  if (found == runs_.end()) {
    auto entry = std::make_unique<CachedRun>();
    entry->run_id = run_id;
    entry->in_hand = true;
    CachedRun* taken = entry.get();
    runs_.emplace(taken->run_id, std::move(entry));
    return {taken, std::move(task)};
  }
  CachedRun* entry = found->second.get();
  if (!entry->in_hand) {
    entry->in_hand = true;
    idle_.erase(entry->idle_position);
    return {entry, std::move(task)};
  }
  if (entry->stuck) return {nullptr, std::move(task)};
  if (entry->mailbox == nullptr) entry->mailbox = std::make_unique<std::deque<WorkflowTask>>();
  std::deque<WorkflowTask>& mailbox = *entry->mailbox;
  if (!is_query(task)) {
    const auto older = std::ranges::find_if_not(mailbox, is_query);
    if (older != mailbox.end()) {
      superseded = std::exchange(*older, std::move(task));
      return {};
    }
  }
  mailbox.push_back(std::move(task));
  return {};
}

std::deque<WorkflowTask> RunCache::mark_stuck(const std::string& run_id) {
  const std::lock_guard lock{mutex_};
  const auto found = runs_.find(run_id);
  if (found == runs_.end() || !found->second->in_hand) return {};
  found->second->stuck = true;
  const auto waiting = std::exchange(found->second->mailbox, nullptr);
  return waiting == nullptr ? std::deque<WorkflowTask>{} : std::move(*waiting);
}

std::optional<WorkflowTask> RunCache::give_back(
    CachedRun* entry, std::vector<std::unique_ptr<engine::Run>>& dropped) {
  const std::lock_guard lock{mutex_};
  entry->stuck = false;
  count(*entry);
  if (entry->mailbox != nullptr) {
    WorkflowTask next = std::move(entry->mailbox->front());
    entry->mailbox->pop_front();
    if (entry->mailbox->empty()) entry->mailbox.reset();
    return next;
  }
  entry->in_hand = false;
  const bool too_large = max_bytes_ > 0 && entry->counted_bytes > max_bytes_;
  if (entry->run == nullptr || max_runs_ == 0 || too_large) {
    if (too_large) ++forced_evictions_;
    drop(entry, dropped);
    return std::nullopt;
  }
  entry->idle_position = idle_.insert(idle_.end(), entry);
  while (too_full() && !idle_.empty()) {
    CachedRun* oldest = idle_.front();
    idle_.pop_front();
    drop(oldest, dropped);
    ++forced_evictions_;
  }
  return std::nullopt;
}

void RunCache::count(CachedRun& entry) {
  const std::size_t now = entry.run == nullptr ? 0 : entry.bytes;
  bytes_ = bytes_ - entry.counted_bytes + now;
  entry.counted_bytes = now;
}

void RunCache::drop(CachedRun* entry, std::vector<std::unique_ptr<engine::Run>>& dropped) {
  if (entry->run != nullptr) dropped.push_back(std::move(entry->run));
  bytes_ -= entry->counted_bytes;
  runs_.erase(entry->run_id);
}

std::vector<std::unique_ptr<engine::Run>> RunCache::drop_idle() {
  std::vector<std::unique_ptr<engine::Run>> dropped;
  const std::lock_guard lock{mutex_};
  dropped.reserve(idle_.size());
  for (CachedRun* entry : idle_) drop(entry, dropped);
  idle_.clear();
  return dropped;
}

std::size_t RunCache::cached() const {
  const std::lock_guard lock{mutex_};
  return runs_.size();
}

std::size_t RunCache::cached_bytes() const {
  const std::lock_guard lock{mutex_};
  return bytes_;
}

std::uint64_t RunCache::forced_evictions() const {
  const std::lock_guard lock{mutex_};
  return forced_evictions_;
}

}  // namespace tempora::pollers
