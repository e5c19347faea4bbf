// The shared half of a `NexusContext`: the worker keeps it to stop the handler.
#pragma once

#include <temporal/api/nexus/v1/message.pb.h>

#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <tempora/nexus_handler.hpp>
#include <vector>

namespace tempora::detail {

struct NexusTaskState {
  NexusInfo info;
  temporal::api::nexus::v1::StartOperationRequest start;  // as it came; empty for a cancellation
  Client client;
  Logger log;
  std::optional<std::chrono::steady_clock::time_point> deadline{};
  std::stop_source stop{};

  std::mutex mutex{};
  std::vector<temporal::api::nexus::v1::Link> links{};  // to what the handler has started
};

}  // namespace tempora::detail
