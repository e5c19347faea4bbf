// What `temporal worker list` and `describe` show of a worker.
#pragma once

#include <temporal/api/worker/v1/message.pb.h>

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "calls.hpp"

namespace tempora::pollers {

// Sends a heartbeat now and at every interval until it is stopped. One that is lost is not sent
// again: the next one says more.
class WorkerHeartbeats : public std::enable_shared_from_this<WorkerHeartbeats> {
 public:
  using Heartbeat = temporal::api::worker::v1::WorkerHeartbeat;
  using Fill = std::function<void(Heartbeat&)>;

  WorkerHeartbeats(std::shared_ptr<const CallEnvironment> environment, std::string name_space,
                   std::string identity, std::chrono::nanoseconds interval, Fill fill);

  void start();
  // For a namespace that could not be asked whether it wants heartbeats: asks at every interval
  // until it answers. Then it is as if `start` were called, or nothing more happens.
  void start_when_wanted();
  void stop();
  // The last one, which goes out with the call that ends the worker.
  Heartbeat last();

 private:
  void ask();
  void send();
  void after_interval(void (WorkerHeartbeats::*next)());
  bool stopped();
  Heartbeat make(temporal::api::enums::v1::WorkerStatus status);

  const std::shared_ptr<const CallEnvironment> environment_;
  const std::string namespace_;
  const std::string identity_;
  const std::chrono::nanoseconds interval_;
  const std::chrono::system_clock::time_point started_ = std::chrono::system_clock::now();
  std::mutex mutex_;
  Fill fill_;  // null once stopped
  std::chrono::system_clock::time_point latest_ = started_;
};

}  // namespace tempora::pollers
