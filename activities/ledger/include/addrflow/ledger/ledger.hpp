// The ledger's activities. Every step is idempotent: the same call again answers the same. All of
// them throw `LedgerError`.
#pragma once

#include <addrflow/v1/evidence.pb.h>
#include <addrflow/ledger/audit.hpp>
#include <addrflow/ledger/error.hpp>
#include <addrflow/ledger/evidence.hpp>
#include <addrflow/ledger/look.hpp>
#include <addrflow/ledger/netbox.hpp>
#include <addrflow/ledger/settings.hpp>
#include <addrflow/ports/effect_journal.hpp>
#include <addrflow/ports/listing.hpp>
#include <addrflow/ports/netbox_ledger.hpp>
#include <addrflow/ports/network.hpp>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace pqxx {
class dbtransaction;
}

namespace addrflow::ledger {

class RestoreWatch;
class Store;

struct PoolSpec {
  std::string tenant;
  std::string name;
  std::string prefix;   // "203.0.113.0/24"
  std::string gateway;  // empty: none
  std::vector<std::string>
      exclusions;  // "203.0.113.5", "203.0.113.8/30", "203.0.113.9-203.0.113.20"
  std::string routing_domain = "default";
  std::chrono::seconds quarantine{3600};
  // Unset: a day, or `longest_lease` where that is longer.
  std::optional<std::chrono::seconds> hold_time;
  std::string netbox_mode = "mirror";  // mirror, authoritative, off
  std::int64_t netbox_prefix_id = 0;
  bool netbox_start_now = false;        // without an import of what NetBox holds
  std::int64_t netbox_vrf_id = 0;       // of the routing domain; 0: what it has
  std::vector<std::string> granted_to;  // besides the owner
  std::string family = "ipv4";          // ipv4, ipv6_pd
  int delegated_length = 0;             // ipv6_pd: what a line gets; 0: /56
  int shortest_length = 0;           // ipv6_pd: set, and the pool delegates mixed sizes from here
  std::string group;                 // pools of one group stand in for each other
  int priority = 100;                // in its group; the lowest first
  std::vector<std::string> nas_ips;  // a site's own pool: it serves these NAS only
};

struct PoolInfo {
  std::string id;
  std::int64_t total = 0;
  std::int64_t free = 0;
};

// How many addresses or delegated prefixes are in which state (B10–B13).
struct LifecycleCounts {
  std::string family;
  std::map<std::string, std::int64_t> states;  // every state, 0 where nothing is in it
  // Of those whose space is held: NetBox knows it under an id, or not.
  std::int64_t tracked = 0;
  std::int64_t untracked = 0;
};

// Numbers are in the pool's own size: addresses, or prefixes of `delegated_length`.
struct PoolUsage {
  std::string id;
  std::string tenant;
  std::string name;
  std::string family;
  std::string prefix;
  std::string routing_domain;
  std::string group;
  int priority = 100;
  bool draining = false;
  int delegated_length = 32;
  int shortest_length = 32;
  std::int64_t total = 0;
  std::int64_t held = 0;
  std::int64_t free = 0;
  std::string counted_at;
  std::int64_t quarantine_s = 0;
  std::int64_t hold_time_s = 0;
  std::string netbox_mode;
  bool netbox_imported = false;    // else it hands out nothing, unless its mode is off
  std::int64_t netbox_vrf_id = 0;  // of its routing domain; 0: the global table
  // Of one pool only:
  std::int64_t resting = 0;  // in quarantine
  std::int64_t blocked = 0;
  std::vector<std::string> nas_ips;
  std::vector<std::string> granted_to;
  std::vector<std::string> exclusions;  // "203.0.113.5 why"
};

// What a change of a pool leaves behind: space that lines still hold and that it takes away.
struct PoolChange {
  std::vector<std::string> held;  // the first hundred
  bool complete = true;
};

// What a person sets of a pool; what is unset stays as it is.
struct PoolSettings {
  std::optional<std::chrono::seconds> quarantine;
  std::optional<std::chrono::seconds> hold_time;
  std::optional<std::string> group;
  std::optional<int> priority;
  std::vector<std::string> grant;                   // tenants that may use it from now on
  std::vector<std::string> revoke_grant;            // and such that may not
  std::optional<std::vector<std::string>> nas_ips;  // these and no other; empty: every NAS
  std::optional<std::string> netbox_mode;
  std::optional<std::int64_t> netbox_vrf_id;  // of its routing domain; 0: the global table
  bool netbox_start_now = false;              // without an import of what NetBox holds
};

// Who changes a pool, and why.
struct By {
  std::string actor;
  std::string reason;
};

// What a subscriber may have of IPv6, and what it has; all empty: there is no profile, so anything.
struct Profile {
  std::string ipv6_mode;
  std::string ipv6_prefix;
  std::string ipv6_state;
};

// Thread-safe.
class Ledger : public ports::EffectJournal, public ports::NasDirectory, public ports::NetboxLedger {
 public:
  // `sessions` and `waker` may be null: then only the hold time opens a gate, and nobody is woken.
  explicit Ledger(Settings settings, ports::SessionDirectory* sessions = nullptr,
                  ports::ServiceWaker* waker = nullptr);
  ~Ledger() override;

  v1::ClaimReply claim(const v1::ClaimRequest& request);
  v1::ReserveReply reserve(const v1::ReserveRequest& request);
  v1::TransitionReply transition(const v1::TransitionRequest& request);
  v1::FinishReply finish(const v1::FinishRequest& request);
  v1::UndoReply undo(const v1::UndoRequest& request);
  v1::GateReply gate(const v1::GateRequest& request);
  v1::PendingReply pending(const v1::ViewRequest& request);
  v1::ComposeClaimReply compose_claim(const v1::ComposeClaimRequest& request);
  v1::Empty compose_finish(const v1::ComposeFinishRequest& request);
  // In batches of a transaction each. `beat` is told what is done after each, and may throw to
  // stop; `done` is what an earlier attempt said last.
  v1::CleanupResult cleanup(const v1::CleanupRequest& request, const v1::CleanupResult& done = {},
                            const std::function<void(const v1::CleanupResult&)>& beat = {});
  v1::CatchUpResult catch_up(const v1::CatchUpRequest& request,
                             const std::function<void(const v1::CatchUpResult&)>& beat = {});
  // Counts what is measured of a family, and of effects, and keeps it for `emitted_metrics`.
  v1::EmitMetricsResult emit_metrics(
      const v1::EmitMetricsRequest& request,
      const std::function<void(const v1::EmitMetricsResult&)>& beat = {});
  // The last emission of each family, in the text format of Prometheus; empty before the first.
  std::string emitted_metrics();
  v1::Empty record(const v1::AuditRequest& request);
  // Runs `work` on one snapshot; nothing of what it supposes outlives it. It may be run again when
  // the connection broke.
  void look(const v1::ServiceRef& service, const std::function<void(LedgerLook&)>& work);

  // --- ports
  ports::Leave begin(const v1::EffectRequest& request,
                     std::chrono::milliseconds hard_deadline) override;
  bool still_current(const v1::EffectRequest& request) override;
  bool finish(const v1::EffectRequest& request, int attempt,
              const v1::EffectReply& outcome) override;
  std::optional<ports::NasRecord> find(const std::string& tenant,
                                       const std::string& nas_ip) override;
  std::vector<ports::NasRecord> others_in_group(const ports::NasRecord& nas) override;

  std::vector<ports::ClaimedEffect> claim_netbox(int limit, std::chrono::milliseconds lease,
                                                 std::chrono::milliseconds grace) override;
  std::int64_t netbox_backlog() override;
  bool acquire_writer(const std::string& pool, const std::string& holder,
                      std::chrono::milliseconds lease) override;
  void release_writer(const std::string& pool, const std::string& holder) override;
  void note_netbox_health(const ports::NetboxHealth& health) override;

  // --- for people. Repeats with the same values change nothing.
  v1::ServiceView view(const v1::ServiceRef& service);
  void add_tenant(const std::string& tenant);
  // A pool of that name that is another is a `conflict`, which names the field.
  PoolInfo add_pool(const PoolSpec& spec);
  // All of it or nothing; what was changed, as "priority: 100 -> 50".
  std::vector<std::string> set_pool(const std::string& tenant, const std::string& name,
                                    const PoolSettings& wanted, const By& by);
  // Of all tenants when `tenant` is empty; with the numbers of the last roll-up.
  std::vector<PoolUsage> pools(const std::string& tenant);
  // Both families, of one tenant or of all (empty).
  std::vector<LifecycleCounts> lifecycle_counts(const std::string& tenant);
  // Counted now.
  PoolUsage pool_usage(const std::string& tenant, const std::string& name);
  // Draining: it gives nothing new; what is held stays held.
  void drain_pool(const std::string& tenant, const std::string& name, bool draining, const By& by);
  // Keeps space from being handed out. What lines hold of it is refused (`conflict`), or with
  // `drain` leaves with its last holder.
  PoolChange exclude_space(const std::string& tenant, const std::string& name,
                           const std::string& space, bool drain, const By& by);
  // The pool becomes `prefix`, a part of it. While lines hold what lies outside it is refused, or
  // with `drain` excluded: the same call again completes it when they have left.
  PoolChange shrink_pool(const std::string& tenant, const std::string& name,
                         const std::string& prefix, bool drain, const By& by);
  // A person gives back what was excluded, or blocked: NetBox called it taken, or a restore found
  // it in use.
  void unblock_space(const std::string& tenant, const std::string& name, const std::string& space,
                     const By& by);
  // A person lets go of what rests in quarantine: it may be requested, and it comes first.
  void end_quarantine(const std::string& tenant, const std::string& name, const std::string& space,
                      const By& by);
  Profile profile(const std::string& tenant, const std::string& subscriber);
  // `mode`: none, slaac, stateful, pd or dual_stack; a delegated prefix needs one of the last two.
  // A prefix that is held stays held: the next allocate or activate is refused, a revoke never.
  Profile set_ipv6_mode(const std::string& tenant, const std::string& subscriber,
                        const std::string& mode);
  void add_nas(const ports::NasRecord& nas);
  // Throws `conflict` while a line with space hangs on it or a pool names it. `ip` where an older
  // version let one name stand for several; else empty.
  void remove_nas(const std::string& tenant, const std::string& name, const std::string& ip,
                  const By& by);
  NetboxPool netbox_pool(const std::string& tenant, const std::string& name);
  // Blocks what NetBox holds in the pool, and starts the pool.
  ImportReport import_netbox(const NetboxPool& pool, std::int64_t netbox_prefix_id,
                             const std::vector<Occupied>& occupied, bool dry_run);
  // What NetBox is to hold, of a scope with at least one member set: bindings whose space is held.
  std::vector<NetboxRow> netbox_rows(const NetboxScope& scope);
  // Writes the row's wish down again as an effect; the catch-up sends it.
  void mirror_again(const NetboxRow& row);
  NetboxStatus netbox_status();
  // In the order of their names; `name` empty: all of the tenant's.
  std::vector<ports::NasRecord> list_nas(const std::string& tenant, const std::string& name = "");
  // I1–I8; with peers also against them.
  AuditReport audit(const AuditPeers& peers = {});
  // Asked of the holdings, over all tenants. Refuses what is no address, prefix or time.
  WhoHeld who_held(const WhoHeldQuery& query);
  // Deletes holdings that ended longer ago than `keep`, in batches; 0 keeps all.
  Pruned prune_holdings(std::chrono::hours keep, bool dry_run);
  // From here on no service is claimed and no gate opens before this database was compared with
  // what the AAA database has seen of it (docs/decisions/0017). It must outlive the ledger.
  void watch(ports::AaaListing& witness);
  // Makes a restored ledger safe to go on with: moves numbers past what AAA has seen, blocks space
  // that AAA handed out to somebody else, and lets claims through again.
  Reconciled reconcile_after_restore(ports::AaaListing& witness, const std::string& actor,
                                     bool dry_run);

 private:
  // Throws `ledger_restored` while the ledger waits for a person.
  void guard(pqxx::dbtransaction& tx);
  void mark_restored(const std::string& detail);
  // Runs `work`; when it found that the ledger was restored, that is written down.
  template <class F>
  auto watched(F work);
  void count_pools(const std::string& family, v1::EmitMetricsResult& result,
                   const std::function<void(const v1::EmitMetricsResult&)>& beat);
  std::vector<v1::ServiceRef> ended_sessions(std::int64_t older_s, v1::CatchUpResult& result);
  void refused(const v1::ClaimRequest& request, const LedgerError& error);

  Settings settings_;
  std::unique_ptr<Store> store_;
  ports::SessionDirectory* sessions_;
  ports::ServiceWaker* waker_;
  std::unique_ptr<RestoreWatch> watch_;
};

}  // namespace addrflow::ledger
