#include "stage.hpp"

#include <temporal/api/history/v1/message.pb.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <peers.hpp>
#include <tempora/replayer.hpp>
#include <thread>

namespace tempora::behaviour {

Client connect(ConnectionOptions options) {
  options.address = addrflow::testing::need_peer("TEMPORAL_ADDRESS");
  return must(Client::connect(std::move(options)));
}

std::string unique(const std::string& prefix) {
  static std::atomic<int> next{0};
  static const auto started = std::chrono::system_clock::now().time_since_epoch().count();
  return prefix + "-" + std::to_string(getpid()) + "-" + std::to_string(started) + "-" +
         std::to_string(++next);
}

Stage::Stage(Client client, std::size_t max_cached) : client_(std::move(client)) {
  options.task_queue = unique("behaviour");
  options.max_cached_workflows = max_cached;
  // Short: a killed worker's cached runs wait for so long.
  options.sticky_schedule_to_start_timeout = 1s;
  options.shutdown_patience = 5s;
  // Failures are provoked by the dozen: TEMPORA_TEST_LOG shows what the worker says to them.
  if (std::getenv("TEMPORA_TEST_LOG") == nullptr) options.log = Logger{};
}

Stage::~Stage() {
  if (worker_ != nullptr) worker_->abandon();
}

void Stage::start_worker() {
  worker_ = std::make_unique<Worker>(client_, options);
  for (const auto& add : registrations_) add(*worker_);
  worker_->start();
}

void Stage::kill_worker() {
  worker_->abandon();
  worker_.reset();
}

StartOptions Stage::start_options() {
  return StartOptions{
      .id = unique("run"), .task_queue = options.task_queue, .execution_timeout = 120s};
}

void Stage::remember(const WorkflowHandle& handle) { started_.push_back(handle); }

void Stage::wait_for_event(const WorkflowHandle& handle, int event_type, int times) {
  const auto until = std::chrono::steady_clock::now() + 30s;
  while (std::chrono::steady_clock::now() < until) {
    if (count_events(handle, event_type) >= times) return;
    std::this_thread::sleep_for(10ms);  // each look is a call to a server that others need, too
  }
  throw std::runtime_error{"the event did not come"};
}

int Stage::count_events(const WorkflowHandle& handle, int event_type) {
  int found = 0;
  for (const auto& event : must(handle.history())->events())
    found += event.event_type() == event_type ? 1 : 0;
  return found;
}

void Stage::replay_all() {
  const Replayer replayer{registry_};
  for (const WorkflowHandle& handle : started_) {
    const auto history = must(client_.handle(handle.id(), handle.started_run_id()).history());
    const auto replayed = replayer.replay(*history);
    EXPECT_TRUE(replayed.has_value())
        << "replay of " << handle.id() << ": " << replayed.error().message;
  }
}

namespace {

void perform(const std::function<void(Stage&)>& body, std::size_t max_cached,
             const ConnectionOptions& how = {}) {
  SCOPED_TRACE("max_cached_workflows " + std::to_string(max_cached));
  try {
    Stage stage{connect(how), max_cached};
    body(stage);
    stage.replay_all();
  } catch (const std::exception& error) {
    ADD_FAILURE() << error.what();
  }
}

}  // namespace

void with_each_cache(const std::function<void(Stage&)>& body, const ConnectionOptions& how) {
  std::vector<std::jthread> stages;
  for (const std::size_t max_cached : {std::size_t{0}, std::size_t{1}, std::size_t{1'000}}) {
    stages.emplace_back([&body, &how, max_cached] { perform(body, max_cached, how); });
  }
}

void with_default_cache(const std::function<void(Stage&)>& body) { perform(body, 1'000); }

}  // namespace tempora::behaviour
