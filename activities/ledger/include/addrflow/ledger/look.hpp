// The ledger as a plan sees it (docs/decisions/0020): one snapshot, and what the operations so far
// would have made of it.
#pragma once

#include <addrflow/v1/activities.pb.h>
#include <vector>

namespace addrflow::ledger {

// Answers as the ledger's activities would, and supposes that it was done. Takes no lock that
// anybody waits for, writes nothing; throws what the operation would be refused with. What another
// request has under way makes it `unavailable`: nobody can say what it will leave behind.
class LedgerLook {
 public:
  virtual ~LedgerLook() = default;

  virtual v1::ComposeClaimReply compose_claim(const v1::ComposeClaimRequest& request) = 0;
  virtual v1::ClaimReply claim(const v1::ClaimRequest& request) = 0;
  virtual v1::ReserveReply reserve(const v1::ReserveRequest& request) = 0;
  virtual void transition(const v1::TransitionRequest& request) = 0;

  // The effects so far, in order: the ledger's own changes, and what would be written down for the
  // other systems.
  virtual const std::vector<v1::PlannedEffect>& effects() const = 0;
  virtual v1::ServiceView view() const = 0;
};

}  // namespace addrflow::ledger
