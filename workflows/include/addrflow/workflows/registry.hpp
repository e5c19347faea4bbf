// All workflows of addrflow, for a worker and for the replayer.
#pragma once

#include <memory>
#include <tempora/definition.hpp>
#include <vector>

namespace addrflow::workflows {

std::vector<std::shared_ptr<const tempora::WorkflowDefinition>> all_workflows();

// Worker w; add_workflows_to(w) — anything with `add_workflow`.
template <class Worker>
void add_workflows_to(Worker& worker) {
  for (const auto& definition : all_workflows()) worker.add_workflow(definition);
}

tempora::WorkflowRegistry workflow_registry();

}  // namespace addrflow::workflows
