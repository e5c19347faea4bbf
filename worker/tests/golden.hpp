// Runs whose histories lie in `histories/` and must replay with every later build: they hold still
// what docs/runtime-determinism.md says. A run is made on the real server once and then kept; see
// golden_histories_test.cpp.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <tempora/client.hpp>
#include <tempora/definition.hpp>
#include <vector>

#include "stage.hpp"

namespace tempora::behaviour {

using Types = std::vector<std::shared_ptr<const WorkflowDefinition>>;

struct Golden {
  std::string name;     // of its file
  Types types;          // what replays it
  Types changed;        // the same types, deliberately changed
  std::string event;    // where the changed ones part from the history,
  std::string command;  // and what they do there
  // Starts the stage's worker, makes the run, waits for its end, and names it.
  std::function<WorkflowHandle(Stage&)> play;
  Types recorded_with{};  // none: `types`
};

inline const ActivityType<std::string, std::string> kWork{
    "work",
    {.start_to_close = 10s,
     .heartbeat = 5s,
     .retry = RetryPolicy{.initial_interval = 10ms, .maximum_attempts = 3}}};
// Two of its orders; the others are in golden_histories_test.cpp.
inline const std::string kOk = "ok";
inline const std::string kHeld = "until cancelled";

std::vector<Golden> golden_operations();  // golden_operations.cpp
std::vector<Golden> golden_messages();    // golden_messages.cpp

// Under an id of its own, so that a history made again differs in what it must.
template <class... A>
WorkflowHandle make_run(Stage& stage, const std::string& type, const A&... arguments) {
  stage.start_worker();
  StartOptions options = stage.start_options();
  options.id = "golden-" + type;
  options.conflict = IdConflictPolicy::kTerminateExisting;
  return must(stage.client().start(type, std::move(options), arguments...));
}

// The run itself, not the latest of its id.
inline WorkflowHandle this_run(const Stage& stage, const WorkflowHandle& handle) {
  return stage.client().handle(handle.id(), handle.started_run_id());
}
inline WorkflowHandle ended(const Stage& stage, const WorkflowHandle& handle) {
  must(handle.result_payloads());
  return this_run(stage, handle);
}

// What came of an operation, in a word.
inline Task<std::string> end_of(Future<std::string> result) {
  std::string text;
  try {
    text = co_await result;
  } catch (const Failure& failure) {
    text = is_cancellation(failure) ? "cancelled" : "failed";
  }
  co_return text;
}

}  // namespace tempora::behaviour
