// What the NetBox activities ask of the ledger besides the journal: effects that nobody pursues any
// more, the right to be a prefix pool's only writer, and a place for NetBox's health.
#pragma once

#include <addrflow/ports/effect_journal.hpp>
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace addrflow::ports {

// An effect that was claimed for sending: its row says `sent`, attempt and deadline are recorded,
// as after `EffectJournal::begin`.
struct ClaimedEffect {
  v1::EffectRequest request;
  Leave leave;
};

struct NetboxHealth {
  std::string worker;   // which process
  std::string breaker;  // closed, open, half-open
  int failures = 0;     // in a row
  std::string detail;   // of the last failure
};

class NetboxLedger {
 public:
  virtual ~NetboxLedger() = default;

  // At most `limit` NetBox effects that are due and that no service's workflow is at: not touched
  // for `grace`. Rows that others have locked are passed over, older wishes for the same object
  // are superseded. The claim lasts for `lease`; after it somebody else may have them.
  virtual std::vector<ClaimedEffect> claim_netbox(int limit, std::chrono::milliseconds lease,
                                                  std::chrono::milliseconds grace) = 0;
  // How many effects are due or will be.
  virtual std::int64_t netbox_backlog() = 0;

  // A plain create of a prefix takes no lock in NetBox, so there is one writer a pool at a time.
  // False: somebody else is at it. Kept for `lease` at most, a crashed writer's included.
  virtual bool acquire_writer(const std::string& pool, const std::string& holder,
                              std::chrono::milliseconds lease) = 0;
  virtual void release_writer(const std::string& pool, const std::string& holder) = 0;

  virtual void note_netbox_health(const NetboxHealth& health) = 0;
};

}  // namespace addrflow::ports
