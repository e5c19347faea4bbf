// Where the AAA server's tables are, and which groups are used there.
#pragma once

#include <chrono>
#include <string>

namespace addrflow::aaa {

struct Settings {
  std::string url;  // libpq; may be another database than the ledger's
  // The group that restricts a line (radusergroup, priority 0): its radgroupreply rows say how.
  std::string suspended_group = "suspended";
  // Of the plan's group. Both are lower where somebody else's group would go before ours.
  int plan_priority = 1;
  std::chrono::seconds session_timeout{0};  // of every line; 0: its Session-Timeout is not ours
  // What a NAS sends between two Interim-Updates, where the accounting row itself does not say.
  std::chrono::seconds interim_interval{300};
  std::chrono::milliseconds statement_timeout{10'000};
  int max_connections = 8;
};

}  // namespace addrflow::aaa
