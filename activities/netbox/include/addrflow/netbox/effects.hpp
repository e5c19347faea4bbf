// The activities netbox_apply and netbox_catch_up: they make NetBox's objects say what the effects'
// rows say.
#pragma once

#include <addrflow/v1/activities.pb.h>
#include <addrflow/v1/netbox.pb.h>
#include <addrflow/netbox/client.hpp>
#include <addrflow/ports/effect_journal.hpp>
#include <addrflow/ports/netbox_ledger.hpp>
#include <functional>
#include <memory>
#include <string>

namespace addrflow::netbox {

struct EffectsSettings {
  std::string worker = "worker";  // this process, where many write down their health
  std::size_t batch = Client::kMostInList;
};

// Actions: reserve, take (NetBox picks), set_active, set_reserved (active no more, undone),
// suspend, deprecate, release. Each states the whole desired condition, so it may be repeated, and
// set_active makes an object that a lost reserve did not. Thread-safe.
class NetboxEffects {
 public:
  // Without a client NetBox is not configured: effects are `not_applicable`.
  NetboxEffects(std::shared_ptr<Client> client, ports::EffectJournal& journal,
                ports::NetboxLedger& ledger, ports::ServiceWaker& waker,
                EffectsSettings settings = {});

  // Throws what the journal throws when the ledger cannot be reached; then nothing was sent.
  v1::EffectReply apply(const v1::EffectRequest& request);

  // Sends what is due, in lists, until nothing is left, the time is over, NetBox fails or
  // `cancelled` says so.
  v1::NetboxCatchUpResult catch_up(
      const v1::NetboxCatchUpRequest& request,
      const std::function<bool()>& cancelled = [] { return false; });

 private:
  v1::EffectReply carry_out(const ports::Leave& leave, Clock::time_point deadline);
  void record(const ports::ClaimedEffect& claimed, const v1::EffectReply& reply,
              v1::NetboxCatchUpResult& result);

  std::shared_ptr<Client> client_;
  ports::EffectJournal& journal_;
  ports::NetboxLedger& ledger_;
  ports::ServiceWaker& waker_;
  EffectsSettings settings_;
};

}  // namespace addrflow::netbox
