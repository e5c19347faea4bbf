// A service as a plan supposes it to be after the operations so far. Nothing of it is in the
// ledger.
#pragma once

#include <addrflow/ledger/settings.hpp>
#include <map>
#include <string>
#include <vector>

#include "allocator.hpp"
#include "rows.hpp"

namespace addrflow::ledger {

struct Supposed {
  Head head;  // id 0: the service is not known yet
  SessionFacts session;
  std::map<std::string, std::vector<std::string>> holds;  // by family
  std::map<std::string, NetboxFacts> reserved;            // by family
  v1::ServiceView view;

  // As in the ledger, a name that goes stays known: an old session may still run under it.
  void take_username(const std::string& username, const std::string& before);
  void take_names(const std::string& nas_ip, const std::string& plan,
                  const std::string& restrict_when = {});
  void add_hold(const std::string& family, const std::string& reason);
  // Brings the view up to what is supposed.
  void show();
};

v1::ClaimReply look_at_claim(Tx& tx, const v1::ClaimRequest& request, const Settings& settings,
                             Supposed& supposed);
v1::ComposeClaimReply look_at_composition(Tx& tx, const v1::ComposeClaimRequest& request,
                                          const ServiceRef& service);

}  // namespace addrflow::ledger
