// What operators look through, and the one thing that they say to the ledger itself: that an effect
// will not be confirmed any more. Pages have limits. All of it throws `LedgerError`.
#pragma once

#include <addrflow/v1/operators.pb.h>
#include <addrflow/ledger/error.hpp>
#include <addrflow/ledger/settings.hpp>
#include <memory>
#include <optional>
#include <string>

namespace addrflow::ledger {

class Store;

struct CompositionRef {
  std::string workflow_id;
  std::string run_id;
  std::string kind;
  bool open = false;
};

// Thread-safe.
class Desk {
 public:
  explicit Desk(const Settings& settings);
  ~Desk();
  Desk(const Desk&) = delete;
  Desk& operator=(const Desk&) = delete;

  // Pages of lines and effects; an empty tenant means all of them.
  v1::ListReply list(const v1::ListRequest& request);
  v1::EffectListReply effects(const v1::EffectListRequest& request);
  v1::EffectDetail effect(std::int64_t id);
  // A person says that this effect will not come about, or has come about unseen: it is tried no
  // more. Repeating it changes nothing; one that is over is a `conflict`.
  v1::EffectDetail abandon_effect(std::int64_t id, const std::string& actor,
                                  const std::string& reason);
  // The one that runs, else the newest.
  std::optional<CompositionRef> last_composition(const v1::ServiceRef& service);
  // The same, of compositions and of the changes that the service's own workflow makes.
  std::optional<CompositionRef> last_run(const v1::ServiceRef& service);

 private:
  std::unique_ptr<Store> store_;
};

}  // namespace addrflow::ledger
