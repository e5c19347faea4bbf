// Who held which space, and what becomes of old holdings.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace addrflow::ledger {

// All times are RFC 3339 with offset. Neither `at` nor `from`/`to`: now.
struct WhoHeldQuery {
  std::string space;  // "203.0.113.7", "2001:db8::1": what contains it; a prefix: what overlaps it
  std::string at;
  std::string from;
  std::string to;
  std::string domain;  // routing domain; empty: all
  std::string tenant;  // empty: all
  std::optional<int> port;
};

struct Holder {
  struct Operation {
    std::int64_t id = 0;
    std::string operation;
    std::string key;
    std::string actor;
    std::string reason;
  };
  std::string tenant;
  std::string subscriber;
  std::string service;
  std::string family;
  std::string domain;
  std::string pool;
  std::string space;
  std::int64_t generation = 0;
  int first_port = 0;
  int last_port = 65'535;
  std::string from;
  std::string to;  // empty: still
  bool releasing = false;
  std::string evidence;  // why it ended
  Operation opened_by;
  Operation closed_by;                 // id 0: still open
  std::vector<std::string> usernames;  // the line's present and former ones
};

struct WhoHeld {
  static constexpr std::size_t kMost = 1'000;
  std::vector<Holder> holders;  // oldest first
  bool truncated = false;       // there are more than kMost
  std::string ambiguous;        // what the question must name: "domain" or "port"; empty: clear
  // Set where holdings that would belong here may have been pruned: what ended before this moment.
  std::string pruned_before;
};

struct Pruned {
  std::int64_t holdings = 0;
  std::string before;  // empty: nothing is ever pruned
};

}  // namespace addrflow::ledger
