// Replays recorded histories with today's code, and says where the two part. Run it over exported
// histories before a deployment: what fails here would block that workflow in production.
#pragma once

#include <temporal/api/history/v1/message.pb.h>

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <tempora/definition.hpp>

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

class Replayer {
 public:
  explicit Replayer(WorkflowRegistry registry) : registry_(std::move(registry)) {}

  std::expected<void, ReplayError> replay(const temporal::api::history::v1::History& history) const;
  // As exported by `temporal workflow show -o json` or the web UI, also in the older spelling of
  // enums.
  std::expected<void, ReplayError> replay_json(std::string_view json) const;

 private:
  WorkflowRegistry registry_;
};

// Parses an exported history. The error says what is wrong with the text.
std::expected<temporal::api::history::v1::History, std::string> parse_history(
    std::string_view json);

}  // namespace tempora
