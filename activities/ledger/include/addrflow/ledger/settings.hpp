#pragma once

#include <addrflow/v1/activities.pb.h>
#include <addrflow/ports/network.hpp>

#include <chrono>
#include <optional>
#include <string>

namespace addrflow::ledger {

struct Settings {
  std::string url;     // empty: libpq's PG* variables. Never logged: it may hold a password.
  int pool_size = 20;  // A66
  std::chrono::milliseconds statement_timeout{10'000};
  std::chrono::milliseconds lock_timeout{5'000};
  std::chrono::milliseconds connect_timeout{5'000};
  std::chrono::milliseconds wait_for_connection{30'000};  // A66
  v1::Pace pace;                                          // goes to the workflows with every claim
  std::optional<ports::NasRecord> default_nas;            // used when no NAS row matches (R21)
  bool netbox = false;  // it is configured: then a mirrored pool starts once it is imported
  // The longest Session-Timeout or lease that AAA sends: a session may outlive its Disconnect-ACK
  // by so much.
  std::chrono::seconds longest_lease{0};
  std::chrono::hours keep_revoked{24 * 90};  // A58
  std::chrono::hours stale_allocated{24};    // A57
  std::chrono::hours stuck_revoking{1};      // B28
};

}  // namespace addrflow::ledger
