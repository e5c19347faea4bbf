// Runs the workflow tasks of one task queue. A task goes through these steps,
// none of which blocks a thread while it waits for the server:
//
//   poll (or inline in a completion) → take the run in hand → complete the
//   event list → process on the executor
//     → answer → give the run back, or go on with the next task of the run
//
// The slot is held from before the poll until the answer's call has returned.
#pragma once

#include <optional>
#include <tempora/interceptor.hpp>
#include <tempora/versioning.hpp>

#include <temporal/api/failure/v1/message.pb.h>
#include <temporal/api/workflowservice/v1/request_response.pb.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tempora/logging.hpp>
#include <tempora/metrics.hpp>
#include <vector>

#include "../activity/activity_worker.hpp"
#include "../activity/local_runner.hpp"
#include "../engine/run.hpp"
#include "calls.hpp"
#include "poll_group.hpp"
#include "resources.hpp"
#include "run_cache.hpp"
#include "slots.hpp"
#include "thread_pool.hpp"
#include "watchdog.hpp"

namespace tempora::pollers {

struct WorkflowWorkerOptions {
  std::string namespace_;
  std::string task_queue;
  std::string sticky_queue;  // unique to this worker object; unused with `max_cached` 0
  std::string identity;
  std::string worker_instance_key;
  std::size_t max_concurrent = 100;
  std::shared_ptr<Resources> resources;  // or null
  std::size_t polls = 5;
  std::size_t most_polls = 0;        // above 0: the server's hints move the number up to this
  std::size_t max_cached = 1'000;    // 0: no sticky queue, every task brings the whole history
  std::size_t max_cached_bytes = 0;  // of all cached runs together; 0: no limit
  std::chrono::nanoseconds sticky_timeout{};
  std::chrono::nanoseconds deadlock_timeout{};  // 0: workflow code may run for ever
  std::size_t payload_limit_bytes = std::size_t{2} << 20;
  std::size_t memo_limit_bytes = std::size_t{2} << 20;
  std::size_t search_attribute_limit_bytes = std::size_t{2} << 10;    // of a value; 0: no limit
  std::size_t search_attributes_limit_bytes = std::size_t{40} << 10;  // of all; 0: no limit
  std::size_t payload_warning_bytes = 0;
  std::size_t threads = 1;
  std::optional<WorkerVersioning> versioning{};
  Logger log;
  std::vector<WorkflowInterceptorFactory> interceptors{};
  std::shared_ptr<Metrics> metrics;
};

using PolledTask = temporal::api::workflowservice::v1::PollWorkflowTaskQueueResponse;

class WorkflowWorker : public std::enable_shared_from_this<WorkflowWorker> {
 public:
  using Clock = TimerQueue::Clock;

  // `activities` runs activities of the same task queue in this worker, for
  // eager starts; may be null.
  WorkflowWorker(std::shared_ptr<const CallEnvironment> environment,
                 std::shared_ptr<const WorkflowRegistry> registry, WorkflowWorkerOptions options,
                 std::shared_ptr<activity::ActivityWorker> activities,
                 std::shared_ptr<activity::LocalRunner> locals);

  void start();

  // The steps of a shutdown, in this order.
  void stop_polling();
  void cancel_polls();
  bool wait_polls_closed(Clock::time_point until);
  bool wait_idle(Clock::time_point until);
  void stop_threads(Clock::time_point until);
  // As after a crash: nothing that ends from now on is answered.
  void abandon();

  std::size_t cached_runs() const { return cache_.cached(); }
  std::size_t cached_bytes() const { return cache_.cached_bytes(); }

  // For the worker's heartbeats.
  struct Numbers {
    TaskNumbers tasks;  // with the polls for new runs
    std::size_t sticky_polls = 0;
    std::int32_t cache_hits = 0;
    std::int32_t cache_misses = 0;
  };
  Numbers numbers() const;

 private:
  // A task and the run it is for, which nobody else has.
  struct InHand {
    CachedRun* entry = nullptr;
    WorkflowTask task;
    bool fresh_run = false;  // the cached state does not line up with the task
    bool run_closed = false;
    bool evict = false;  // the engine says the run is of no further use
    temporal::api::enums::v1::CommandType terminal_command{};
    bool benign = false;  // the failure with which the run ends
    std::size_t corrupted_signals = 0;
    std::vector<Permit> eager;
    std::vector<std::uint64_t> abandoned;  // local activities, by what the task decided
  };
  using Hand = std::unique_ptr<InHand>;
  friend struct LocalSession;

  std::shared_ptr<PollGroup> make_polls(bool sticky, std::size_t polls);
  std::size_t sure_slots() const;
  void accept(WorkflowTask task);
  void started(const PolledTask& task) const;
  // Of a run whose code has been given up and may come back: the server sends it again.
  void refuse(WorkflowTask task);
  void give_up(const Watchdog::Stuck& stuck);
  void report_stuck(const PolledTask& task, const std::string& message);
  void prepare(Hand hand);
  void fetch(Hand hand, bool whole);
  void process(Hand hand);
  void dispatch(Hand hand, engine::TaskOutcome outcome);
  // The task stays open until its local activities have ended, or for as long as the server allows.
  void begin_locals(Hand hand, engine::LocalWork work);
  void order_locals(InHand& hand, engine::LocalWork work);
  // Those that were cancelled or abandoned.
  void tell_locals(InHand& hand, const engine::LocalWork& work);
  void let_go_of_abandoned(InHand& hand);
  std::size_t answer_limit(const std::string& run_id);
  void note_outgrown(const std::string& run_id);
  void local_ended(const std::weak_ptr<LocalSession>& weak, engine::LocalResult result);
  void go_on(Hand hand);
  void heartbeat_due(const std::weak_ptr<LocalSession>& weak, std::uint64_t task);
  void complete(Hand hand, engine::TaskOutcome outcome);
  void send(Hand hand,
            temporal::api::workflowservice::v1::RespondWorkflowTaskCompletedRequest completion);
  void completed(Hand hand, const CallStatus& status,
                 temporal::api::workflowservice::v1::RespondWorkflowTaskCompletedResponse& answer);
  void not_completed(Hand hand, const CallStatus& status);
  void fail(Hand hand, temporal::api::enums::v1::WorkflowTaskFailedCause cause,
            temporal::api::failure::v1::Failure failure);
  void answer_query(Hand hand,
                    temporal::api::workflowservice::v1::RespondQueryTaskCompletedRequest answer);
  void fail_query(Hand hand, const std::string& message);
  void came_back(Hand hand);
  void finish(Hand hand, bool keep_run);

  void request_eager(
      InHand& hand,
      temporal::api::workflowservice::v1::RespondWorkflowTaskCompletedRequest& completion);
  void start_eager(
      InHand& hand,
      temporal::api::workflowservice::v1::RespondWorkflowTaskCompletedResponse& answer);
  bool caching() const { return options_.max_cached > 0; }
  temporal::api::workflowservice::v1::RespondWorkflowTaskFailedRequest failed_request(
      const PolledTask& task, temporal::api::enums::v1::WorkflowTaskFailedCause cause,
      temporal::api::failure::v1::Failure failure) const;
  Logger log_of(const InHand& hand) const;
  Logger log_of(const PolledTask& task) const;
  void count_failed(const PolledTask& task,
                    temporal::api::enums::v1::WorkflowTaskFailedCause cause);
  void count_cache(std::size_t evicted) const;
  void count(std::string_view name, const InHand& hand, std::size_t times = 1) const;
  void count_end_of_run(const InHand& hand) const;

  const std::shared_ptr<const CallEnvironment> environment_;
  const std::shared_ptr<const WorkflowRegistry> registry_;
  const WorkflowWorkerOptions options_;
  const std::shared_ptr<activity::ActivityWorker> activities_;
  const std::shared_ptr<activity::LocalRunner> locals_;
  const std::shared_ptr<SlotPool> slots_;
  const std::shared_ptr<ThreadPool> threads_;
  std::shared_ptr<Watchdog> watchdog_;
  RunCache cache_;
  std::vector<std::shared_ptr<PollGroup>> polls_;
  std::mutex outgrown_mutex_;
  std::map<std::string, int> outgrown_;  // by run, how often; see `answer_limit`
  std::atomic<bool> stopping_{false};
  std::atomic<bool> abandoned_{false};
  std::atomic<std::int32_t> processed_{0};
  std::atomic<std::int32_t> failed_{0};
  mutable std::atomic<std::int32_t> cache_hits_{0};
  mutable std::atomic<std::int32_t> cache_misses_{0};
};

}  // namespace tempora::pollers
