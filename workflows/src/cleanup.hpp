// CleanupStaleAddresses: the daily tidying (A43, A57, A58, C6). It changes no service's state; what
// is stuck is counted and its workflow is woken by the ledger's activity.
#pragma once

#include <addrflow/catalog/catalog.hpp>
#include <addrflow/catalog/evidence.hpp>
#include <tempora/definition.hpp>
#include <tempora/workflow.hpp>

namespace addrflow::workflows {

class CleanupStaleAddresses {
 public:
  tempora::Task<v1::CleanupResult> run(tempora::Context& context, tempora::RawPayload input);
};

// Wakes services whose effects nobody has confirmed, and whose gate is past due.
class CatchUpDueWork {
 public:
  tempora::Task<v1::CatchUpResult> run(tempora::Context& context, tempora::RawPayload input);
};

// Counts what dashboards and alerts are fed with (A44, C5).
class EmitLifecycleMetrics {
 public:
  tempora::Task<v1::EmitMetricsResult> run(tempora::Context& context, tempora::RawPayload input);
};

extern const tempora::Definition<CatchUpDueWork> kCatchUpDefinition;
extern const tempora::Definition<CleanupStaleAddresses> kCleanupDefinition;
extern const tempora::Definition<EmitLifecycleMetrics> kEmitMetricsDefinition;

}  // namespace addrflow::workflows
