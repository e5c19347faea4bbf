#include <tempora/testing/environment.hpp>

#include <google/protobuf/util/json_util.h>

#include <atomic>
#include <stdexcept>
#include <thread>

#include "testing/service/loop.hpp"

namespace tempora::testing {

namespace {

// Calls that fail are tried again at once: no real second passes in a test.
class HastyClock final : public CallClock {
 public:
  Time now() override { return Time{ticks_}; }
  void sleep_for(std::chrono::milliseconds pause) override { ticks_ = ticks_.load() + pause; }
  void after(std::chrono::milliseconds pause, std::function<void()> callback) override {
    sleep_for(pause);
    callback();
  }
  double jitter() override { return 1.0; }

 private:
  std::atomic<std::chrono::steady_clock::duration> ticks_{};
};

}  // namespace

struct Environment::Impl {
  explicit Impl(EnvironmentOptions given)
      : options(std::move(given)),
        loop(std::make_shared<Loop>(options)),
        client(detail::client_on(loop,
                                 {.identity = "test",
                                  .codecs = options.codecs,
                                  .interceptors = options.client_interceptors},
                                 std::make_shared<HastyClock>())) {}

  ~Impl() {
    if (worker != nullptr) worker->abandon();
    worker.reset();
    // An action that still waits for the service is told that the service is gone.
    loop->stop();
    for (std::thread& action : actions) action.join();
  }

  void start_worker() {
    if (worker != nullptr) return;
    worker = std::make_unique<Worker>(
        client, WorkerOptions{.task_queue = options.task_queue,
                              .max_concurrent_activities = 20,
                              .max_concurrent_local_activities = 20,
                              .max_cached_workflows = options.max_cached_workflows,
                              .workflow_threads = 1,
                              .identity = "test",
                              .log = options.log,
                              .interceptors = options.worker_interceptors});
    for (const auto& registration : registrations) registration(*worker);
    worker->start();
  }

  // A thread each: one that waits for the service must not keep the next from its turn.
  void act(const std::function<void()>& action, const std::shared_ptr<Busy>& busy) {
    actions.emplace_back([this, action, busy] {
      action();
      loop->post([busy](Server& server) { server.finished(busy); });
    });
  }

  const EnvironmentOptions options;
  const std::shared_ptr<Loop> loop;
  const Client client;
  WorkflowRegistry registry;
  std::vector<std::function<void(Worker&)>> registrations;
  std::unique_ptr<Worker> worker;
  std::vector<std::thread> actions;  // of the loop, until it has stopped
};

Environment::Environment(EnvironmentOptions options)
    : impl_(std::make_unique<Impl>(std::move(options))) {}
Environment::~Environment() = default;

void Environment::add_workflow(std::shared_ptr<const WorkflowDefinition> definition,
                               bool fallback) {
  if (fallback) {
    impl_->registry.add_fallback(definition);
    return add_to_worker(
        [definition](Worker& worker) { worker.add_fallback_workflow(definition); });
  }
  impl_->registry.add(definition);
  add_to_worker([definition](Worker& worker) { worker.add_workflow(definition); });
}

void Environment::add_to_worker(std::function<void(Worker&)> registration) {
  if (impl_->worker != nullptr)
    throw std::logic_error{"workflows and activities are added before the first start"};
  impl_->registrations.push_back(std::move(registration));
}

Client Environment::client() const { return impl_->client; }
void Environment::start_worker() { impl_->start_worker(); }

void Environment::restart_worker() {
  if (impl_->worker != nullptr) impl_->worker->abandon();
  impl_->worker.reset();
  impl_->start_worker();
}

Outcome<WorkflowHandle> Environment::client_start(std::string_view type, std::string id,
                                                  Payloads input) {
  impl_->start_worker();
  return impl_->client.start_payloads(
      type, {.id = std::move(id), .task_queue = impl_->options.task_queue}, std::move(input));
}

WorkflowHandle Environment::started(Outcome<WorkflowHandle> outcome) {
  if (!outcome) throw std::runtime_error{outcome.error().text()};
  return *std::move(outcome);
}

TimePoint Environment::now() const {
  return impl_->loop->ask([](Server& server) { return server.now(); });
}

Duration Environment::elapsed() const { return now() - impl_->options.start; }

void Environment::advance(Duration time) {
  std::promise<void> done;
  impl_->loop->post([&](Server& server) { server.advance(time, [&] { done.set_value(); }); });
  done.get_future().wait();
}

void Environment::at(Duration from_now, std::function<void()> action) {
  Impl* impl = impl_.get();
  impl->loop->post([impl, from_now, action = std::move(action)](Server& server) {
    server.at(server.now() + from_now,
              [impl, action](std::shared_ptr<Busy> busy) { impl->act(action, busy); });
  });
}

void Environment::inject(ActivityFaults::Rule rule) {
  impl_->loop->post([rule = std::move(rule)](Server& server) { server.add_fault(rule); });
}

void Environment::inject_times(const std::string& type, int times, ActivityFault fault) {
  auto left = std::make_shared<int>(times);
  inject([type, left, fault = std::move(fault)](
             const ActivityAttempt& attempt) -> std::optional<ActivityFault> {
    if (attempt.type != type || *left == 0) return std::nullopt;
    if (*left > 0) --*left;
    return fault;
  });
}

std::size_t Environment::attempts(const std::string& activity_type) const {
  return impl_->loop->ask([&](Server& server) { return server.activity_attempts(activity_type); });
}

std::vector<std::string> Environment::workflow_ids() const {
  return impl_->loop->ask([](Server& server) { return server.workflow_ids(); });
}

std::string Environment::history_json(const std::string& workflow_id) const {
  const auto json = impl_->client.handle(workflow_id).history_json();
  if (!json) throw std::runtime_error{json.error().text()};
  return *json;
}

std::expected<void, ReplayError> Environment::replay(const std::string& workflow_id) const {
  const EnvironmentOptions& options = impl_->options;
  const Replayer replayer{
      impl_->registry,
      {.interceptors = options.worker_interceptors.workflows, .codecs = options.codecs}};
  const auto histories =
      impl_->loop->ask([&](Server& server) { return server.histories(workflow_id); });
  if (histories.empty()) throw std::runtime_error{"there is no workflow " + workflow_id};
  for (const auto& history : histories) {
    // By its JSON, so that what is exported is what is replayed.
    std::string json;
    if (!google::protobuf::util::MessageToJsonString(history, &json).ok())
      throw std::runtime_error{"a history cannot be written as JSON"};
    if (auto replayed = replayer.replay_json(json); !replayed) return replayed;
  }
  return {};
}

}  // namespace tempora::testing
