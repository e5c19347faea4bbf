// What a run and its worker tell each other about local activities.
#pragma once

#include <temporal/api/failure/v1/message.pb.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <tempora/activity_type.hpp>
#include <tempora/payload.hpp>
#include <tempora/time.hpp>
#include <vector>

namespace tempora::engine {

// An order to the worker. One order may take several attempts.
struct LocalRequest {
  std::uint64_t seq = 0;  // of the run
  std::string activity_id;
  std::string activity_type;
  Payloads input;
  std::map<std::string, Payload> headers;
  int attempt = 1;             // of the first attempt under this order
  TimePoint scheduled_time{};  // the workflow's clock, when it was first asked for
  Duration schedule_to_close{};
  Duration start_to_close{};
  RetryPolicy retry;
  Duration local_retry_threshold{};
  bool cancelled = false;  // before the worker had it
};

// The end of an order.
struct LocalResult {
  enum class Kind : std::uint8_t { kCompleted, kFailed, kCancelled };
  std::uint64_t seq = 0;
  Kind kind = Kind::kCompleted;
  int attempt = 1;
  Payloads result;
  temporal::api::failure::v1::Failure failure;
  std::optional<Duration> backoff;  // the next attempt is due after a pause this long
  Duration elapsed{};               // since the order
};

struct LocalWork {
  std::vector<LocalRequest> start;
  std::vector<std::uint64_t> cancel;
  std::vector<std::uint64_t> abandon;  // they go on, whatever becomes of the run
  Duration task_timeout{};             // of the workflow task that waits for them
};

}  // namespace tempora::engine
