// What an activity that changes another system asks of the ledger, without knowing the ledger:
// leave to send, and a place for the evidence. Implemented by activities/ledger, handed out by the
// composition root.
#pragma once

#include <addrflow/v1/activities.pb.h>

#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

namespace addrflow::ports {

// One attempt's leave. `wish` is the whole desired condition, as the transition wrote it down:
//   aaa/apply         {username, former_usernames[], condition: full|restricted|refused, framed_ip,
//                      plan}
//   radius/coa        {username, former_usernames[], nas_ip, condition: full|restricted, framed_ip,
//                      plan}
//   radius/disconnect {username, former_usernames[], nas_ip, framed_ip}
//   netbox/*          {key, family: ipv4|ipv6_pd, address (ipv4) or prefix ("2001:db8::/56"; a
//   `take`
//                      has neither, NetBox picks),
//                      prefix_length, vrf_id, netbox_id, pool_id, pool_netbox_id, tenant,
//                      subscriber, service, state, description, unsettled_ms: how long an older
//                      request may still arrive, so that "not there" is not yet "gone"}
struct Leave {
  enum class Kind {
    kSend,        // go on: the row says `sent`, attempt and deadline are recorded
    kSuperseded,  // a newer transition owns the service: send nothing
    kRecorded,    // an earlier attempt has a final outcome: `recorded` is it, send nothing
  };
  Kind kind = Kind::kSuperseded;
  std::int64_t effect_id = 0;
  std::int64_t number = 0;
  int attempt = 0;  // 1 for the first
  bool earlier_unknown =
      false;  // an earlier attempt left and nobody knows its outcome: look up before repeating
  std::string tenant;
  std::string system;
  std::string action;
  nlohmann::json wish;
  v1::EffectReply recorded;
};

class EffectJournal {
 public:
  virtual ~EffectJournal() = default;

  // Called right before the request leaves, once for each attempt. After `hard_deadline` from now
  // this attempt sends nothing more: the ledger leans on it when it turns "unknown" into "absent".
  // Throws on a database that cannot be reached (the attempt then fails as retryable, nothing was
  // sent).
  virtual Leave begin(const v1::EffectRequest& request,
                      std::chrono::milliseconds hard_deadline) = 0;

  // Reads the fence again, cheaply: true while the service is still at `number`.
  virtual bool still_current(const v1::EffectRequest& request) = 0;

  // Records the attempt's outcome. Returns false when a newer transition came meanwhile: then the
  // packet may have been stale, the journal has written down that the service must state its
  // present condition again, and the caller wakes the service.
  virtual bool finish(const v1::EffectRequest& request, int attempt,
                      const v1::EffectReply& outcome) = 0;
};

// Starts or signals the service's workflow ("wake"), so that it looks at what is pending. Never
// throws; a wake that cannot be delivered is logged, the row in the ledger stays for the next
// start.
class ServiceWaker {
 public:
  virtual ~ServiceWaker() = default;
  // False: it could not be delivered.
  virtual bool wake(const v1::ServiceRef& service) noexcept = 0;
};

}  // namespace addrflow::ports
