#include "history_fetch.hpp"

#include <fmt/format.h>

#include <utility>

namespace tempora::pollers {

namespace api = temporal::api::workflowservice::v1;
using temporal::api::history::v1::History;
using temporal::api::history::v1::HistoryEvent;

namespace {

// A history has at most 51 200 events, a page about 250; empty pages are
// allowed. Beyond this the server is at fault.
constexpr int kMostPages = 4'096;
constexpr std::chrono::seconds kBudget{10};  // of one page

class Fetch : public std::enable_shared_from_this<Fetch> {
 public:
  using Done = std::move_only_function<void(std::expected<void, HistoryError>)>;

  Fetch(std::shared_ptr<const CallEnvironment> environment, std::string namespace_,
        PolledTask& task, bool whole, Done done)
      : environment_(std::move(environment)),
        namespace_(std::move(namespace_)),
        task_(task),
        whole_(whole),
        done_(std::move(done)) {}

  void next(std::string page_token) {
    if (++pages_ > kMostPages)
      return done_(std::unexpected(HistoryError{"the history has no end"}));
    api::GetWorkflowExecutionHistoryRequest request;
    request.set_namespace_(namespace_);
    *request.mutable_execution() = task_.workflow_execution();
    request.set_next_page_token(std::move(page_token));
    call_retrying<api::GetWorkflowExecutionHistoryResponse>(
        *environment_, methods::kGetHistory, std::move(request), CallPlan{.budget = kBudget},
        [self = shared_from_this()](CallStatus status,
                                    api::GetWorkflowExecutionHistoryResponse& answer) {
          self->arrived(status, answer);
        });
  }

 private:
  void arrived(const CallStatus& status, api::GetWorkflowExecutionHistoryResponse& answer) {
    if (!status.ok()) {
      return done_(std::unexpected(HistoryError{
          fmt::format("history not fetched, code {}: {}", status.code, status.message)}));
    }
    History& target = whole_ ? fetched_ : *task_.mutable_history();
    for (HistoryEvent& event : *answer.mutable_history()->mutable_events()) {
      target.mutable_events()->Add(std::move(event));
    }
    if (!answer.next_page_token().empty()) return next(answer.next_page_token());
    if (whole_) splice_history(std::move(fetched_), task_);
    task_.clear_next_page_token();
    done_(check_events(task_));
  }

  const std::shared_ptr<const CallEnvironment> environment_;
  const std::string namespace_;
  PolledTask& task_;
  const bool whole_;
  Done done_;
  History fetched_;
  int pages_ = 0;
};

}  // namespace

void complete_history(std::shared_ptr<const CallEnvironment> environment, std::string namespace_,
                      PolledTask& task, bool whole,
                      std::move_only_function<void(std::expected<void, HistoryError>)> done) {
  if (!whole && task.next_page_token().empty()) return done(check_events(task));
  std::string token = whole ? std::string{} : task.next_page_token();
  std::make_shared<Fetch>(std::move(environment), std::move(namespace_), task, whole,
                          std::move(done))
      ->next(std::move(token));
}

std::expected<void, HistoryError> check_events(const PolledTask& task) {
  const auto& events = task.history().events();
  for (int i = 1; i < events.size(); ++i) {
    if (events[i].event_id() == events[i - 1].event_id() + 1) continue;
    return std::unexpected(HistoryError{
        fmt::format("event {} follows event {}", events[i].event_id(), events[i - 1].event_id())});
  }
  if (task.started_event_id() == 0) return {};
  const auto last = events.empty() ? 0 : events[events.size() - 1].event_id();
  if (last >= task.started_event_id()) return {};
  return std::unexpected(HistoryError{
      fmt::format("the history ends at event {}, before event {} that started the task", last,
                  task.started_event_id())});
}

void splice_history(History fetched, PolledTask& task) {
  auto& events = *fetched.mutable_events();
  if (task.started_event_id() > 0) {
    int kept = events.size();
    while (kept > 0 && events[kept - 1].event_id() > task.started_event_id()) --kept;
    events.DeleteSubrange(kept, events.size() - kept);
  }
  const std::int64_t last = events.empty() ? 0 : events[events.size() - 1].event_id();
  for (HistoryEvent& event : *task.mutable_history()->mutable_events()) {
    if (event.event_id() > last) events.Add(std::move(event));
  }
  task.mutable_history()->Swap(&fetched);
}

}  // namespace tempora::pollers
