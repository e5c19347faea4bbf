// The activity netbox_apply: makes NetBox's object say what an effect's row says.
#pragma once

#include <addrflow/v1/activities.pb.h>
#include <addrflow/netbox/client.hpp>
#include <addrflow/ports/effect_journal.hpp>
#include <memory>

namespace addrflow::netbox {

// Actions: reserve, set_active, set_reserved (active no more, undone), deprecate, release. Each
// states the whole desired condition, so it may be repeated, and set_active makes an object that a
// lost reserve did not. Thread-safe.
class NetboxEffects {
 public:
  // Without a client NetBox is not configured: effects are `not_applicable`.
  NetboxEffects(std::shared_ptr<Client> client, ports::EffectJournal& journal,
                ports::ServiceWaker& waker);

  // Throws what the journal throws when the ledger cannot be reached; then nothing was sent.
  v1::EffectReply apply(const v1::EffectRequest& request);

 private:
  v1::EffectReply carry_out(const ports::Leave& leave, Clock::time_point deadline);

  std::shared_ptr<Client> client_;
  ports::EffectJournal& journal_;
  ports::ServiceWaker& waker_;
};

}  // namespace addrflow::netbox
