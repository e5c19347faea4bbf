// The runs of one worker: at most one task of a run is in hand at a time, later
// ones wait in its mailbox; idle runs are kept up to a number and to a sum of
// bytes, the least recently used is dropped first.
#pragma once

#include <temporal/api/workflowservice/v1/request_response.pb.h>

#include <cstddef>
#include <deque>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "../engine/run.hpp"
#include "slots.hpp"

namespace tempora::pollers {

// A workflow task with the slot it occupies.
struct WorkflowTask {
  std::unique_ptr<temporal::api::workflowservice::v1::PollWorkflowTaskQueueResponse> response;
  Permit permit;
  TimerQueue::Clock::time_point received = TimerQueue::Clock::now();
  bool full_history = false;  // the history was fetched whole; a second fetch
                              // would bring nothing new
};

struct LocalSession;  // workflow_worker.cpp

// One run. Whoever has it in hand (`RunCache::take`) may use `run`; nobody else
// does.
struct CachedRun {
  std::string run_id;
  std::unique_ptr<engine::Run> run;
  std::shared_ptr<LocalSession> locals;  // its local activities; made on first use
  std::size_t bytes = 0;                 // what `run` holds; told before it is given back

 private:
  friend class RunCache;
  std::size_t counted_bytes = 0;  // of these, in the sum
  bool in_hand = false;
  bool stuck = false;                                 // whoever has it in hand has been given up
  std::unique_ptr<std::deque<WorkflowTask>> mailbox;  // made on first use: idle runs have none
  std::list<CachedRun*>::iterator idle_position;
};

class RunCache {
 public:
  // `max_bytes` 0: no limit.
  explicit RunCache(std::size_t max_runs, std::size_t max_bytes = 0)
      : max_runs_(max_runs), max_bytes_(max_bytes) {}

  struct Taken {
    CachedRun* entry = nullptr;  // null: the task waits in the mailbox, or is handed back
    WorkflowTask task;
  };
  // Takes the run in hand for this task, or leaves the task to the one who has
  // it. Of several waiting tasks that are not queries only the newest is kept:
  // the server has given up the older ones.
  Taken take(WorkflowTask task);

  // Until the run is given back its tasks are not kept but handed back by `take`; those that wait
  // already, now.
  std::deque<WorkflowTask> mark_stuck(const std::string& run_id);

  // Gives the run back, with or without its state, or hands over the next
  // waiting task (the run stays in hand). Runs that fall out of the cache are
  // put into `dropped`, to be destroyed by the caller. A run that alone holds
  // more than all may is dropped itself, the others stay.
  std::optional<WorkflowTask> give_back(CachedRun* entry,
                                        std::vector<std::unique_ptr<engine::Run>>& dropped);

  // Runs that nobody has in hand.
  std::vector<std::unique_ptr<engine::Run>> drop_idle();
  std::size_t cached() const;
  // What the runs held when they were last given back; those in hand count, too.
  std::size_t cached_bytes() const;
  std::uint64_t forced_evictions() const;

 private:
  static bool is_query(const WorkflowTask& task) { return task.response->has_query(); }

  void count(CachedRun& entry);
  void drop(CachedRun* entry, std::vector<std::unique_ptr<engine::Run>>& dropped);
  bool too_full() const {
    return runs_.size() > max_runs_ || (max_bytes_ > 0 && bytes_ > max_bytes_);
  }

  const std::size_t max_runs_;
  const std::size_t max_bytes_;
  mutable std::mutex mutex_;
  std::unordered_map<std::string_view, std::unique_ptr<CachedRun>>
      runs_;                    // key: the entry's own run_id
  std::list<CachedRun*> idle_;  // least recently used first
  std::size_t bytes_ = 0;
  std::uint64_t forced_evictions_ = 0;
};

}  // namespace tempora::pollers
