#include "engine/run.hpp"

#include "engine/run_state.hpp"

namespace tempora::engine {

Run::Run(const WorkflowRegistry& registry, RunOptions options)
    : state_(std::make_unique<RunState>(registry, std::move(options))) {}
Run::~Run() = default;

TaskOutcome Run::process(const WorkflowTask& task) {
  return state_->process(task, /*replay_only=*/false);
}
TaskOutcome Run::replay(const WorkflowTask& task) {
  return state_->process(task, /*replay_only=*/true);
}

TaskOutcome Run::resolve(const WorkflowTask& task, const LocalResult& result) {
  return state_->resolve(task, result);
}
TaskOutcome Run::heartbeat(const WorkflowTask& task) { return state_->heartbeat(task); }
bool Run::has_room(const LocalResult& result) const { return state_->has_room(result); }

void Run::completed(
    const temporal::api::workflowservice::v1::RespondWorkflowTaskCompletedResponse& response) {
  state_->completed(response);
}

std::int64_t Run::last_started_event_id() const { return state_->last_started_event_id(); }
bool Run::expects(const WorkflowTask& task) const { return state_->expects(task); }
const std::optional<ReplayError>& Run::nondeterminism() const { return state_->nondeterminism(); }
bool Run::closed() const { return state_->closed(); }
const std::string& Run::workflow_type() const { return state_->workflow_type(); }
TimePoint Run::start_time() const { return state_->info().start_time; }
std::size_t Run::memory_bytes() const { return state_->memory_bytes(); }
VersioningBehavior Run::versioning() const { return state_->versioning(); }

}  // namespace tempora::engine
