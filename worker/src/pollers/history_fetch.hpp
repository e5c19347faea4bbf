// Completes the event list of a workflow task: follows the pages of a long one,
// or fetches the whole history when the run is not cached.
#pragma once

#include <temporal/api/workflowservice/v1/request_response.pb.h>

#include <expected>
#include <functional>
#include <memory>
#include <string>

#include "calls.hpp"

namespace tempora::pollers {

using PolledTask = temporal::api::workflowservice::v1::PollWorkflowTaskQueueResponse;

struct HistoryError {
  std::string message;
};

// A task that arrived with a page token gets the pages behind it; `whole`
// fetches from the first event instead and takes from the task only what the
// stored history lacks (the events of a repeated or speculative workflow task
// are not stored). `done` runs once, maybe at once. `task` must live until
// then.
void complete_history(std::shared_ptr<const CallEnvironment> environment, std::string namespace_,
                      PolledTask& task, bool whole,
                      std::move_only_function<void(std::expected<void, HistoryError>)> done);

// Event ids must count up by one and reach the task's `started_event_id`.
std::expected<void, HistoryError> check_events(const PolledTask& task);

// `fetched`, cut at the task's `started_event_id`, and then those events of the
// task that lie behind it.
void splice_history(temporal::api::history::v1::History fetched, PolledTask& task);

}  // namespace tempora::pollers
