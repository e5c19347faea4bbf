#include "worker_heartbeat.hpp"

#include <temporal/api/workflowservice/v1/request_response.pb.h>
#include <unistd.h>

#include <array>
#include <utility>

#include "converter/time.hpp"
#include "engine/run_state.hpp"

namespace tempora::pollers {

namespace api = temporal::api::workflowservice::v1;
namespace enums = temporal::api::enums::v1;

namespace {

constexpr std::chrono::milliseconds kBudget{5'000};
constexpr CallPlan kOnce{.attempt_deadline = kBudget, .budget = kBudget, .max_attempts = 1};

TimePoint precise(std::chrono::system_clock::time_point time) {
  return std::chrono::time_point_cast<Duration>(time);
}

std::string host_name() {
  std::array<char, 256> host{};
  if (gethostname(host.data(), host.size() - 1) != 0) host[0] = '\0';
  return host.data();
}

}  // namespace

WorkerHeartbeats::WorkerHeartbeats(std::shared_ptr<const CallEnvironment> environment,
                                   std::string name_space, std::string identity,
                                   std::chrono::nanoseconds interval, Fill fill)
    : environment_(std::move(environment)),
      namespace_(std::move(name_space)),
      identity_(std::move(identity)),
      interval_(interval),
      fill_(std::move(fill)) {}

void WorkerHeartbeats::start() {
  send();
  after_interval(&WorkerHeartbeats::start);
}

void WorkerHeartbeats::start_when_wanted() { after_interval(&WorkerHeartbeats::ask); }

void WorkerHeartbeats::after_interval(void (WorkerHeartbeats::*next)()) {
  environment_->timers->after(interval_, [weak = weak_from_this(), next] {
    const auto self = weak.lock();
    if (self != nullptr && !self->stopped()) std::invoke(next, *self);
  });
}

bool WorkerHeartbeats::stopped() {
  const std::lock_guard lock{mutex_};
  return fill_ == nullptr;
}

void WorkerHeartbeats::ask() {
  api::DescribeNamespaceRequest request;
  request.set_namespace_(namespace_);
  call_retrying<api::DescribeNamespaceResponse>(
      *environment_, methods::kDescribeNamespace, std::move(request), kOnce,
      [weak = weak_from_this()](const CallStatus& status, const auto& answer) {
        const auto self = weak.lock();
        if (self == nullptr || self->stopped()) return;
        if (!status.ok()) {
          self->start_when_wanted();
        } else if (answer.namespace_info().capabilities().worker_heartbeats()) {
          self->start();
        }
      });
}

void WorkerHeartbeats::stop() {
  Fill gone;  // what it holds may end with it, outside the lock
  const std::lock_guard lock{mutex_};
  gone.swap(fill_);
}

WorkerHeartbeats::Heartbeat WorkerHeartbeats::last() {
  return make(enums::WORKER_STATUS_SHUTTING_DOWN);
}

WorkerHeartbeats::Heartbeat WorkerHeartbeats::make(enums::WorkerStatus status) {
  Heartbeat beat;
  beat.set_worker_identity(identity_);
  beat.mutable_host_info()->set_host_name(host_name());
  beat.mutable_host_info()->set_process_id(std::to_string(getpid()));
  beat.set_sdk_name(engine::kSdkName);
  beat.set_sdk_version(engine::kSdkVersion);
  beat.set_status(status);
  const auto now = std::chrono::system_clock::now();
  const std::lock_guard lock{mutex_};
  write(precise(started_), beat.mutable_start_time());
  write(precise(now), beat.mutable_heartbeat_time());
  write(std::chrono::duration_cast<Duration>(now - latest_),
        beat.mutable_elapsed_since_last_heartbeat());
  latest_ = now;
  if (fill_) fill_(beat);
  return beat;
}

void WorkerHeartbeats::send() {
  api::RecordWorkerHeartbeatRequest request;
  request.set_namespace_(namespace_);
  request.set_identity(identity_);
  *request.add_worker_heartbeat() = make(enums::WORKER_STATUS_RUNNING);
  call_retrying<api::RecordWorkerHeartbeatResponse>(*environment_, methods::kRecordWorkerHeartbeat,
                                                    std::move(request), kOnce,
                                                    [](const CallStatus&, const auto&) {});
}

}  // namespace tempora::pollers
