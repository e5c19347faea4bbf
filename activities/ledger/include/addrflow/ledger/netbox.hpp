// What the ledger tells and takes when a pool meets NetBox.
#pragma once

#include <addrflow/v1/lifecycle.pb.h>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace addrflow::ledger {

struct NetboxPool {
  std::string id;
  std::string tenant;
  std::string name;
  std::string family;
  std::string prefix;
  std::string mode;  // mirror, authoritative, off
  std::int64_t netbox_prefix_id = 0;
  std::int64_t vrf_id = 0;  // 0: the global table
  std::string imported_at;  // empty: not yet
};

// Space that NetBox holds: a prefix, or first to last.
struct Occupied {
  std::string first;
  std::string last;
  std::string cidr;  // of a prefix; else empty
  std::string key;   // empty: not ours
  std::string what;
  std::int64_t netbox_id = 0;  // where it is of the pool's own kind, address or prefix
};

struct ImportReport {
  std::int64_t blocked = 0;  // addresses, or prefixes of an IPv6 pool, that are blocked by it
  std::int64_t ours = 0;     // objects of bindings that the ledger knows
  std::vector<std::string> conflicts;  // held by a line, and by somebody else in NetBox
};

struct NetboxScope {
  std::string tenant;
  std::string subscriber;
  std::string address;  // an address, or a prefix
  std::string pool;     // name or id
};

// One binding, and the wish that its state stands for.
struct NetboxRow {
  v1::ServiceRef service;
  std::int64_t row_id = 0;
  std::string state;
  std::string action;  // reserve, set_active, suspend, deprecate
  nlohmann::json wish;
};

struct NetboxStatus {
  struct Count {
    std::string action;
    std::string status;
    std::int64_t effects = 0;
    std::string oldest;
  };
  std::vector<Count> backlog;  // what is not confirmed, refusals for good included
  struct Health {
    std::string worker;
    std::string breaker;
    std::int64_t failures = 0;
    std::string detail;
    std::string at;
  };
  std::vector<Health> health;
};

}  // namespace addrflow::ledger
