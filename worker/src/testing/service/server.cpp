// Time and turns: what comes next.
#include "testing/service/server.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "transport/methods.hpp"

namespace tempora::testing {

Server::Server(EnvironmentOptions options)
    : options_(std::move(options)), now_(options_.start), random_(options_.seed) {}

void Server::call(std::string_view method, const CallPtr& call) {
  static const std::map<std::string_view, Handler> kHandlers{
      {methods::kGetSystemInfo, &Server::get_system_info},
      {methods::kDescribeNamespace, &Server::describe_namespace},
      {methods::kStartWorkflow, &Server::start_workflow},
      {methods::kSignalWithStart, &Server::signal_with_start},
      {methods::kMultiOperation, &Server::multi_operation},
      {methods::kSignalWorkflow, &Server::signal_workflow},
      {methods::kQueryWorkflow, &Server::query_workflow},
      {methods::kUpdateWorkflow, &Server::update_workflow},
      {methods::kPollUpdate, &Server::poll_update},
      {methods::kCancelWorkflow, &Server::cancel_workflow},
      {methods::kTerminateWorkflow, &Server::terminate_workflow},
      {methods::kDescribeWorkflow, &Server::describe_workflow},
      {methods::kGetHistory, &Server::get_history},
      {methods::kListWorkflows, &Server::list_workflows},
      {methods::kCountWorkflows, &Server::count_workflows},
      {methods::kPollWorkflowTask, &Server::poll_workflow_task},
      {methods::kWorkflowTaskCompleted, &Server::workflow_task_completed},
      {methods::kWorkflowTaskFailed, &Server::workflow_task_failed},
      {methods::kQueryTaskCompleted, &Server::query_task_completed},
      {methods::kPollActivityTask, &Server::poll_activity_task},
      {methods::kActivityTaskCompleted, &Server::activity_completed},
      {methods::kActivityTaskFailed, &Server::activity_failed},
      {methods::kActivityTaskCanceled, &Server::activity_canceled},
      {methods::kActivityHeartbeat, &Server::heartbeat},
      {methods::kPollNexusTask, &Server::poll_nexus_task},
      {methods::kNexusTaskCompleted, &Server::nexus_completed},
      {methods::kNexusTaskFailed, &Server::nexus_failed},
      {methods::kShutdownWorker, &Server::shutdown_worker},
  };
  const auto handler = kHandlers.find(method);
  if (handler == kHandlers.end()) {
    return call->refuse(grpc_code::kUnimplemented,
                        fmt::format("the testing service does not play {}", method));
  }
  (this->*handler->second)(call);
}

void Server::cancelled(const CallPtr& call) {
  if (!call->open()) return;
  const auto forget = [&](auto& queues, auto request) {
    for (auto& [name, queue] : queues) {
      if (std::erase(queue.polls, call) == 0) continue;
      if (queue.polls.empty()) queue.attended = false;
      // A worker that ends in good order lets the server end its polls.
      lost(call->request<decltype(request)>().worker_instance_key());
    }
  };
  forget(workflow_queues_, api::PollWorkflowTaskQueueRequest{});
  forget(activity_queues_, api::PollActivityTaskQueueRequest{});
  forget(nexus_queues_, api::PollNexusTaskQueueRequest{});
  std::erase_if(waiting_, [&](const Waiting& waiting) { return waiting.call == call; });
  call->refuse(grpc_code::kCancelled, "cancelled");
}

bool Server::step() {
  std::erase_if(waiting_, [](const Waiting& waiting) { return !waiting.call->open(); });
  if (!moves() || someone_works()) return false;
  if (deliver()) return true;
  // A worker that is about to poll again is waited for; a queue that nobody attends is not.
  const bool soon = std::ranges::any_of(ready_, [&](const Ready& ready) {
    if (ready.kind == Ready::Kind::kTransfer || blocked_by_earlier(ready)) return false;
    const Queues& queues = queues_for(ready.kind);
    const auto queue = queues.find(queue_of(ready));
    return queue != queues.end() && queue->second.attended;
  });
  if (soon) return false;

  const auto advance = std::ranges::min_element(advances_, {}, &Advance::until);
  const bool limited = advance != advances_.end();
  const bool due = !alarms_.empty() &&
                   (!limited || alarms_.begin()->first.first <= advance->until || moves_time());
  if (due && (limited || moves_time())) {
    auto alarm = alarms_.extract(alarms_.begin());
    now_ = std::max(now_, alarm.key().first);
    alarm.mapped()();
    return true;
  }
  if (limited) {
    now_ = std::max(now_, advance->until);
    const auto done = std::move(advance->done);
    advances_.erase(advance);
    done();
    return true;
  }
  if (!waiting_.empty()) say_stuck();
  return false;
}

void Server::advance(Duration time, std::function<void()> done) {
  advances_.push_back({now_ + time, std::move(done)});
}

void Server::at(TimePoint time, std::function<void(std::shared_ptr<Busy>)> action) {
  after(std::max(time - now_, Duration::zero()), [this, action = std::move(action)] {
    auto busy = std::make_shared<Busy>();
    busy_.push_back(busy);
    action(std::move(busy));
  });
}

void Server::finished(const std::shared_ptr<Busy>& busy) { std::erase(busy_, busy); }

Alarm Server::after(Duration pause, std::function<void()> action) {
  // With a seed the order of what is due at once is drawn as well.
  const std::uint64_t order =
      options_.seed == 0 ? next_alarm_++ : (random_() << 24U) + (next_alarm_++ & 0xff'ffffU);
  const Alarm alarm{now_ + std::max(pause, Duration::zero()), order};
  alarms_.emplace(alarm, std::move(action));
  return alarm;
}

void Server::cancel_alarm(std::optional<Alarm>& alarm) {
  if (alarm) alarms_.erase(*alarm);
  alarm.reset();
}

bool Server::someone_works() const {
  return task_in_hand_ != nullptr ||
         std::ranges::any_of(busy_, [](const auto& busy) { return busy->working(); });
}

bool Server::moves() const { return !waiting_.empty() || !advances_.empty(); }

bool Server::moves_time() const { return std::ranges::any_of(waiting_, &Waiting::moves_time); }

const Server::Queues& Server::queues_for(Ready::Kind kind) const {
  switch (kind) {
    case Ready::Kind::kActivity: return activity_queues_;
    case Ready::Kind::kNexus: return nexus_queues_;
    default: return workflow_queues_;
  }
}

const std::string& Server::queue_of(const Ready& ready) const {
  if (ready.kind == Ready::Kind::kNexus)
    return nexus_queue(ready.run->nexus.at(ready.event).order.endpoint());
  if (ready.kind == Ready::Kind::kActivity) {
    return ready.run->activities.at(ready.event).order.task_queue().name();
  }
  if (!ready.run->sticky_queue.empty()) {
    const auto queue = workflow_queues_.find(ready.run->sticky_queue);
    if (queue != workflow_queues_.end() && queue->second.attended) return ready.run->sticky_queue;
  }
  return ready.run->started().task_queue().name();
}

// What a run has asked of others keeps its order: a signal does not overtake the start of its
// child.
bool Server::blocked_by_earlier(const Ready& ready) const {
  if (ready.kind != Ready::Kind::kTransfer) return false;
  for (const Ready& other : ready_) {
    if (&other == &ready) return false;
    if (other.kind == Ready::Kind::kTransfer && other.run == ready.run) return true;
  }
  return false;
}

bool Server::can_deliver(const Ready& ready) const {
  if (ready.kind == Ready::Kind::kTransfer) return !blocked_by_earlier(ready);
  if (ready.kind == Ready::Kind::kQuery &&
      ready.run->task.phase != WorkflowTaskState::Phase::kNone) {
    return false;  // it goes with the workflow task
  }
  const Queues& queues = queues_for(ready.kind);
  const auto queue = queues.find(queue_of(ready));
  return queue != queues.end() && !queue->second.polls.empty();
}

bool Server::deliver() {
  // What is over in the meantime.
  std::erase_if(ready_, [](const Ready& ready) {
    switch (ready.kind) {
      case Ready::Kind::kWorkflowTask:
        return ready.run->task.phase != WorkflowTaskState::Phase::kScheduled;
      case Ready::Kind::kActivity: {
        const auto found = ready.run->activities.find(ready.event);
        return found == ready.run->activities.end() ||
               found->second.state != Activity::State::kReady;
      }
      case Ready::Kind::kNexus: {
        const auto found = ready.run->nexus.find(ready.event);
        return found == ready.run->nexus.end() || found->second.state != NexusOp::State::kReady;
      }
      case Ready::Kind::kQuery:
        std::erase_if(ready.run->queries, [](const auto& query) { return !query.call->open(); });
        return ready.run->queries.empty();
      case Ready::Kind::kTransfer: return false;
    }
    return true;
  });
  std::vector<std::size_t> choices;
  for (std::size_t i = 0; i < ready_.size(); ++i) {
    if (can_deliver(ready_[i])) choices.push_back(i);
  }
  if (choices.empty()) return false;
  const std::size_t index = choices[options_.seed == 0 ? 0 : random_() % choices.size()];
  const Ready ready = ready_[index];
  if (ready.kind == Ready::Kind::kTransfer) {
    ready_.erase(ready_.begin() + static_cast<std::ptrdiff_t>(index));
    ready.act();
    return true;
  }
  const std::string queue = queue_of(ready);
  ready_.erase(ready_.begin() + static_cast<std::ptrdiff_t>(index));
  if (ready.kind == Ready::Kind::kActivity) {
    start_activity(ready.run, ready.event);
    return true;
  }
  if (ready.kind == Ready::Kind::kNexus) {
    hand_out_nexus(ready.run, ready.event);
    return true;
  }
  bool sticky = queue == ready.run->sticky_queue;
  if (sticky && roll() < options_.evict_rate) sticky = false;
  if (!sticky) ready.run->sticky_queue.clear();
  // An evicted run goes back to the common queue; its worker may have no poll open there yet.
  const CallPtr poll =
      take_poll(workflow_queues_, sticky ? queue : ready.run->started().task_queue().name());
  if (poll == nullptr) {
    make_ready(ready);
    return false;
  }
  auto& task = poll->response<api::PollWorkflowTaskQueueResponse>();
  const std::string worker =
      poll->request<api::PollWorkflowTaskQueueRequest>().worker_instance_key();
  task_in_hand_ = ready.run;
  if (ready.kind == Ready::Kind::kWorkflowTask) {
    start_task(ready.run, worker, sticky, task);
  } else {
    query_in_hand_ = ready.run->queries.front().call;
    ready.run->queries.erase(ready.run->queries.begin());
    query_worker_ = worker;
    query_token_ = fmt::format("query-{}", ++next_token_);
    task.set_task_token(query_token_);
    task.mutable_workflow_execution()->set_workflow_id(ready.run->id);
    task.mutable_workflow_execution()->set_run_id(ready.run->run_id);
    *task.mutable_workflow_type() = ready.run->started().workflow_type();
    task.set_previous_started_event_id(ready.run->previous_started);
    task.set_attempt(1);
    *task.mutable_query() = query_in_hand_->request<api::QueryWorkflowRequest>().query();
    if (!sticky) *task.mutable_history() = ready.run->history;
  }
  poll->answer();
  return true;
}

CallPtr Server::take_poll(Queues& queues, const std::string& queue) {
  auto& polls = queues[queue].polls;
  if (polls.empty()) return nullptr;
  CallPtr poll = std::move(polls.front());
  polls.pop_front();
  return poll;
}

void Server::wait(const CallPtr& call, const std::string& workflow_id, bool moves_time) {
  // Whoever works may be the one who waits now: nobody else can tell.
  for (const auto& busy : busy_) {
    ++busy->waits;
    call->waiting_for_me.push_back(busy);
  }
  waiting_.push_back({call, workflow_id, moves_time});
}

void Server::give_up_waiting(const std::string& workflow_id, int code, const std::string& why) {
  const auto waiting = waiting_;
  for (const Waiting& each : waiting) {
    if (each.workflow_id == workflow_id || workflow_id.empty()) each.call->refuse(code, why);
  }
  std::erase_if(waiting_, [](const Waiting& each) { return !each.call->open(); });
}

void Server::say_stuck() {
  std::string open;
  for (const auto& [id, chain] : runs_) {
    const RunPtr& run = chain.back();
    if (!run->open()) continue;
    const bool unattended = run->task.phase == WorkflowTaskState::Phase::kScheduled;
    open += fmt::format("; {} {}", id,
                        unattended
                            ? fmt::format("has a task for queue {}, which no worker polls",
                                          run->started().task_queue().name())
                            : fmt::format("is open and rests after event {}", run->last_event()));
  }
  give_up_waiting({}, grpc_code::kFailedPrecondition,
                  "nothing will ever happen: no timer is running and nobody works" + open);
}

double Server::roll() { return static_cast<double>(random_() >> 11U) * 0x1.0p-53; }

std::string Server::new_uuid() {
  const std::uint64_t a = random_();
  const std::uint64_t b = random_();
  return fmt::format("{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}", a >> 32U, (a >> 16U) & 0xffffU,
                     a & 0xfffU, b >> 52U, b & 0xffff'ffff'ffffULL);
}

std::size_t Server::activity_attempts(const std::string& type) const {
  const auto found = attempts_.find(type);
  return found == attempts_.end() ? 0 : found->second;
}

std::vector<std::string> Server::workflow_ids() const {
  std::vector<std::string> ids;
  for (const auto& [id, chain] : runs_) ids.push_back(id);
  return ids;
}

std::vector<temporal::api::history::v1::History> Server::histories(
    const std::string& workflow_id) const {
  std::vector<temporal::api::history::v1::History> histories;
  if (const auto chain = runs_.find(workflow_id); chain != runs_.end()) {
    for (const RunPtr& run : chain->second) histories.push_back(run->history);
  }
  return histories;
}

}  // namespace tempora::testing
