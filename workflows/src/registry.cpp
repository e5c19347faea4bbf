#include "cleanup.hpp"
#include "netbox_catch_up.hpp"
#include "service_lifecycle.hpp"
#include "subscriber.hpp"

#include <addrflow/workflows/registry.hpp>

namespace addrflow::workflows {

std::vector<std::shared_ptr<const tempora::WorkflowDefinition>> all_workflows() {
  return {kServiceLifecycle.erased(),      kProvisionDefinition.erased(),
          kDeprovisionDefinition.erased(), kSuspendDefinition.erased(),
          kReactivateDefinition.erased(),  kCleanupDefinition.erased(),
          kCatchUpDefinition.erased(),     kNetboxCatchUpDefinition.erased(),
          kEmitMetricsDefinition.erased()};
}

tempora::WorkflowRegistry workflow_registry() {
  tempora::WorkflowRegistry registry;
  for (const auto& definition : all_workflows()) registry.add(definition);
  return registry;
}

}  // namespace addrflow::workflows
