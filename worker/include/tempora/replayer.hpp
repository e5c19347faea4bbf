// Replays recorded histories with today's code, and says where the two part. Run it over exported
// histories before a deployment: what fails here would block that workflow in production.
#pragma once

#include <temporal/api/history/v1/message.pb.h>

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <tempora/codec.hpp>
#include <tempora/definition.hpp>
#include <tempora/interceptor.hpp>
#include <utility>
#include <vector>

namespace tempora {

struct ReplayError {
  std::int64_t event_id = 0;  // zero: not about one event
  std::string event_type;     // "ActivityTaskScheduled"
  std::string command;        // what the code did; empty if it did nothing there
  std::string workflow_type;
  std::string position;  // file:line of the call that made the command; empty if there is none
  std::string message;   // the whole text; starts with [TMPRL1100] for nondeterminism
  bool nondeterminism = false;
};

// What the worker that recorded has beside the code of its workflows: the replay needs the same.
struct ReplayerOptions {
  std::string namespace_ = "default";                      // as `Context::info` tells it
  std::vector<WorkflowInterceptorFactory> interceptors{};  // those of `WorkerInterceptors`
  CodecOptions codecs{};                                   // for payloads that are still encoded
};

class Replayer {
 public:
  explicit Replayer(WorkflowRegistry registry, ReplayerOptions options = {})
      : registry_(std::move(registry)), options_(std::move(options)) {}

  // A workflow task that is still open is not done: what the code did before it is compared.
  std::expected<void, ReplayError> replay(const temporal::api::history::v1::History& history) const;
  // As exported by `temporal workflow show -o json` or the web UI, also in the older spelling of
  // enums.
  std::expected<void, ReplayError> replay_json(std::string_view json) const;

 private:
  WorkflowRegistry registry_;
  ReplayerOptions options_;
};

// Parses an exported history. The error says what is wrong with the text.
std::expected<temporal::api::history::v1::History, std::string> parse_history(
    std::string_view json);

}  // namespace tempora
