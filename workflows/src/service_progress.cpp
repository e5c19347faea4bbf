#include "service_progress.hpp"

#include "clock_text.hpp"

#include <addrflow/domain/state.hpp>

namespace addrflow::workflows {
namespace {

std::string status_of(const Pursuit& pursuit) {
  if (pursuit.confirmed()) return "done";
  if (pursuit.last.status() == "refused" && pursuit.settled) return "refused";
  if (pursuit.in_flight) return "running";
  const std::string& last = pursuit.last.status();
  if (pursuit.stopped || last == "superseded" || last == "abandoned") return "skipped";
  return pursuit.attempts > 0 ? "blocked" : "waiting";
}

v1::StepProgress step_of(const Pursuit& pursuit) {
  v1::StepProgress step;
  step.set_name(pursuit.effect.system() + "_" + pursuit.effect.action());
  step.set_status(status_of(pursuit));
  step.set_attempts(pursuit.attempts + (pursuit.in_flight ? 1 : 0));
  if (pursuit.first_attempt) step.set_started_at(clock_text(*pursuit.first_attempt));
  const std::string& code = pursuit.last.code();
  const std::string& detail = pursuit.last.detail();
  const std::string said = code + (code.empty() || detail.empty() ? "" : ": ") + detail;
  if (step.status() == "done" || step.status() == "skipped") {
    step.set_message(pursuit.last.status() == "confirmed" ? code : pursuit.last.status());
    if (pursuit.last_answer) step.set_ended_at(clock_text(*pursuit.last_answer));
  } else if (pursuit.attempts > 0) {
    step.set_last_error(said);
  }
  return step;
}

}  // namespace

void OperationProgress::begin(const Order& order, tempora::TimePoint now) {
  own_.Clear();
  pursuits_.clear();
  own_.set_state("running");
  own_.set_kind(std::string{domain::to_string(order.operation)});
  own_.set_key(order.caller.key());
  *own_.mutable_service() = order.service;
  step("claim", now);
}

void OperationProgress::step(std::string_view name, tempora::TimePoint now) {
  close_step("done", "", now);
  v1::StepProgress& next = *own_.add_steps();
  next.set_name(std::string{name});
  next.set_status("running");
  next.set_attempts(1);
  next.set_started_at(clock_text(now));
}

void OperationProgress::close_step(std::string_view status, std::string_view why,
                                   tempora::TimePoint now) {
  if (own_.steps().empty() || own_.steps().rbegin()->status() != "running") return;
  v1::StepProgress& last = *own_.mutable_steps()->rbegin();
  last.set_status(std::string{status});
  last.set_last_error(std::string{why});
  last.set_ended_at(clock_text(now));
}

void OperationProgress::undoing(std::string_view why, tempora::TimePoint now) {
  close_step("failed", why, now);
  own_.set_state("undoing");
  step("undo", now);
}

void OperationProgress::end(bool success, std::string_view why, tempora::TimePoint now) {
  const bool undone = own_.state() == "undoing";
  close_step(success || undone ? "done" : "failed", success || undone ? "" : why, now);
  own_.set_state("finished");
}

void OperationProgress::pursues(std::shared_ptr<const Pursuit> pursuit) {
  if (own_.state() != "finished") pursuits_.push_back(std::move(pursuit));
}

v1::CompositionProgress OperationProgress::shown() const {
  v1::CompositionProgress shown = own_;
  if (shown.state().empty()) shown.set_state("finished");  // nothing was asked of this run
  for (const auto& pursuit : pursuits_) *shown.add_steps() = step_of(*pursuit);
  return shown;
}

}  // namespace addrflow::workflows
