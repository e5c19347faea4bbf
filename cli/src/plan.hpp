// commit = false: what a request would do in every system (docs/decisions/0020). Reads only.
#pragma once

#include "commands.hpp"

#include <addrflow/aaa/database.hpp>
#include <addrflow/aaa/look.hpp>
#include <addrflow/ledger/ledger.hpp>
#include <addrflow/radius/effects.hpp>
#include <tempora/worker.hpp>

namespace addrflow::cli {

// Thread-safe. The references must outlive it.
class Planner {
 public:
  Planner(ledger::Ledger& ledger, aaa::Database& aaa, radius::RadiusEffects& radius, bool netbox)
      : ledger_(ledger), aaa_(aaa), radius_(radius), netbox_(netbox) {}

  // Throws ledger::LedgerError and tempora::ApplicationError: what the request would be refused
  // with.
  v1::PlanReply plan(const v1::PlanRequest& request);

 private:
  void complete(v1::PlannedEffect& effect, const v1::ServiceRef& service, aaa::SupposedRows& rows);
  void packets(v1::PlannedEffect& effect, const v1::ServiceRef& service,
               const nlohmann::json& wish);

  ledger::Ledger& ledger_;
  aaa::Database& aaa_;
  radius::RadiusEffects& radius_;
  const bool netbox_;
};

void add_plan_activity(tempora::Worker& worker, Planner& planner);

// For the command line: the parts that a plan needs, and no worker.
Exit run_plan(const Shell& shell, const v1::PlanRequest& request);

}  // namespace addrflow::cli
