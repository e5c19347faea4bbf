// A worker for the load generator: the contract's workflows and activities until SIGINT.
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>
#include <string_view>
#include <tempora/client.hpp>
#include <tempora/worker.hpp>

#include "contract.hpp"

namespace {

using namespace tempora;
using namespace tempora::bench;

struct Arguments {
  std::string address = "127.0.0.1:7233";
  std::string task_queue = "peerbench";
  std::size_t max_concurrent = 0;
  std::size_t cache_size = 0;
  std::size_t pollers = 0;
  std::chrono::milliseconds work{0};  // what each step of a Provision computes
};

// Both `--name value` and `--name=value`.
Arguments parse(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    std::string_view name = argv[i];
    std::string value;
    if (const auto equals = name.find('='); equals != std::string_view::npos) {
      value = name.substr(equals + 1);
      name = name.substr(0, equals);
    } else if (i + 1 < argc) {
      value = argv[++i];
    }
    const auto number = [&] { return static_cast<std::size_t>(std::atoll(value.c_str())); };
    if (name == "--address") arguments.address = value;
    if (name == "--task-queue") arguments.task_queue = value;
    if (name == "--max-concurrent") arguments.max_concurrent = number();
    if (name == "--cache-size") arguments.cache_size = number();
    if (name == "--pollers") arguments.pollers = number();
    if (name == "--work") arguments.work = std::chrono::milliseconds{number()};
  }
  return arguments;
}

std::chrono::nanoseconds thread_time() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return std::chrono::seconds{now.tv_sec} + std::chrono::nanoseconds{now.tv_nsec};
}

StepResult perform(const StepRequest& request, std::chrono::milliseconds work) {
  for (const auto end = thread_time() + work; work.count() > 0 && thread_time() < end;) {
  }
  return {request.step, request.subscriber_id, request.tenant_id, "done", request.correlation};
}

}  // namespace

int main(int argc, char** argv) {
  const Arguments arguments = parse(argc, argv);
  // Blocked before any thread exists, so that only `sigwait` below gets them.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);

  ConnectionOptions connection;
  connection.address = arguments.address;
  const auto client = Client::connect(std::move(connection));
  if (!client) {
    std::fprintf(stderr, "%s\n", client.error().text().c_str());
    return 1;
  }
  WorkerOptions options;
  options.task_queue = arguments.task_queue;
  options.log = Logger{};
  if (arguments.max_concurrent > 0) {
    options.max_concurrent_workflow_tasks = arguments.max_concurrent;
    options.max_concurrent_activities = arguments.max_concurrent;
  }
  if (arguments.cache_size > 0) options.max_cached_workflows = arguments.cache_size;
  if (arguments.pollers > 0) {
    options.workflow_pollers = arguments.pollers;
    options.activity_pollers = arguments.pollers;
  }
  Worker worker{*client, options};
  worker.add(kProvision);
  worker.add(kAddressEntity);
  worker.add(kReplayLoop);
  for (const auto& activity : provision_steps()) {
    worker.add(activity, [work = arguments.work](ActivityContext&, const StepRequest& request) {
      return perform(request, work);
    });
  }
  worker.add(kApplyTransition,
             [](ActivityContext&, const TransitionStep& transition) { return transition; });
  worker.start();
  int received = 0;
  sigwait(&signals, &received);
  worker.shutdown();
  return 0;
}
