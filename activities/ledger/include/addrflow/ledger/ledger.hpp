// The ledger's activities. Every step is idempotent: the same call again answers the same. All of
// them throw `LedgerError`.
#pragma once

#include <addrflow/ledger/error.hpp>
#include <addrflow/ledger/settings.hpp>
#include <addrflow/ports/effect_journal.hpp>
#include <addrflow/ports/network.hpp>
#include <memory>
#include <string>
#include <vector>

namespace addrflow::ledger {

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
  std::chrono::seconds hold_time{86'400};
  std::string netbox_mode = "mirror";  // mirror, authoritative, off
  std::int64_t netbox_prefix_id = 0;
  std::int64_t netbox_vrf_id = 0;       // of the routing domain, when this call makes it
  std::vector<std::string> granted_to;  // besides the owner
};

struct PoolInfo {
  std::string id;
  std::int64_t total = 0;
  std::int64_t free = 0;
};

// I1–I8, as far as the ledger can see them.
struct AuditReport {
  enum class Result { kClean, kViolated, kCouldNotCheck };
  struct Violation {
    std::string invariant;  // "I1"
    std::string tenant;
    std::string what;
  };
  Result result = Result::kClean;
  std::vector<Violation> violations;
  std::int64_t services = 0;
  std::int64_t skipped = 0;  // an operation was under way
  std::string why;           // kCouldNotCheck
};

struct Holder {
  std::string tenant;
  std::string subscriber;
  std::string service;
  std::string from;
  std::string to;  // empty: still
};

// Thread-safe.
class Ledger : public ports::EffectJournal, public ports::NasDirectory {
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
  v1::CleanupResult cleanup(const v1::CleanupRequest& request);
  v1::Empty record(const v1::AuditRequest& request);

  // --- ports
  ports::Leave begin(const v1::EffectRequest& request,
                     std::chrono::milliseconds hard_deadline) override;
  bool still_current(const v1::EffectRequest& request) override;
  bool finish(const v1::EffectRequest& request, int attempt,
              const v1::EffectReply& outcome) override;
  std::optional<ports::NasRecord> find(const std::string& tenant,
                                       const std::string& nas_ip) override;

  // --- for people. Repeats with the same values change nothing.
  v1::ServiceView view(const v1::ServiceRef& service);
  void add_tenant(const std::string& tenant);
  PoolInfo add_pool(const PoolSpec& spec);
  void add_nas(const ports::NasRecord& nas);
  AuditReport audit();
  // Who held `address` at `at` (RFC 3339; empty: now), over all tenants.
  std::vector<Holder> who_held(const std::string& address, const std::string& at = {});

 private:
  void refused(const v1::ClaimRequest& request, const LedgerError& error);

  Settings settings_;
  std::unique_ptr<Store> store_;
  ports::SessionDirectory* sessions_;
  ports::ServiceWaker* waker_;
};

}  // namespace addrflow::ledger
