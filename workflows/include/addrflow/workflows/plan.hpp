// commit = false (docs/decisions/0020): walks through a request as its workflow would, over a
// ledger that only looks. Pure: the world comes in as functions, so a client and an activity use
// the same.
#pragma once

#include <addrflow/v1/activities.pb.h>
#include <functional>

namespace addrflow::workflows {

// Each answers as the ledger's activity of that name, and supposes that it was done. What they
// throw goes through.
struct LookOnlyLedger {
  std::function<v1::ComposeClaimReply(const v1::ComposeClaimRequest&)> compose_claim;
  std::function<v1::ClaimReply(const v1::ClaimRequest&)> claim;
  std::function<v1::ReserveReply(const v1::ReserveRequest&)> reserve;
  std::function<void(const v1::TransitionRequest&)> transition;
  std::function<v1::ServiceView()> view;
};

// The answer that the request would get as soon as everything is confirmed, without its effects.
// Throws tempora::ApplicationError with the code that the request would be refused with.
v1::LifecycleResult look_ahead(const v1::PlanRequest& request, const LookOnlyLedger& ledger);

}  // namespace addrflow::workflows
