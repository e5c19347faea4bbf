// What other systems hold of ours, page by page: for the audit, and for a ledger that was restored
// to an earlier state. Everything throws when the system cannot be reached.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace addrflow::ports {

// One username of ours, as the AAA server will answer its next login.
struct AaaLine {
  std::string tenant;
  std::string subscriber;
  std::string service;
  std::string username;
  std::int64_t number = 0;  // the newest transition of the service that wrote there
  bool refused = false;     // our Auth-Type := Reject
  bool restricted = false;  // by the suspended group, and no group of somebody else goes before it
  std::string plan;  // the group that is read beside the suspended one; empty: none, nobody's
  std::vector<std::string> spaces;  // Framed-IP-Address and Delegated-IPv6-Prefix, sorted
};

// Space that the AAA database was told to hand out, some time.
struct HandedOut {
  std::string space;
  std::string username;
  std::string tenant;
  std::string subscriber;
  std::string service;
  std::int64_t number = 0;  // the newest transition of that service there
  bool now = false;         // it is still handed out
  bool online = false;      // accounting has an open session with it
};

struct ServiceName {
  std::string tenant;
  std::string subscriber;
  std::string service;
};

struct AaaFence {
  ServiceName service;
  std::int64_t number = 0;
};

class AaaListing {
 public:
  virtual ~AaaListing() = default;
  // The newest effect of any service that was written there; 0: none.
  virtual std::int64_t newest_effect() = 0;
  // All usernames of these services.
  virtual std::vector<AaaLine> lines_of(const std::vector<ServiceName>& services) = 0;
  // In the order of usernames, after this one.
  virtual std::vector<AaaLine> lines_after(const std::string& username, int most) = 0;
  virtual std::vector<AaaFence> fences_after(const ServiceName& service, int most) = 0;
  // In the order of (space, username), after this one.
  virtual std::vector<HandedOut> handed_out_after(const std::string& space,
                                                  const std::string& username, int most) = 0;
};

struct NetboxObject {
  std::int64_t id = 0;
  std::string key;
  std::string space;  // "203.0.113.7", "2001:db8:0:100::/56"
  std::string status;
  std::string lifecycle_state;
  std::int64_t vrf_id = 0;  // 0: the global table
};

class NetboxListing {
 public:
  virtual ~NetboxListing() = default;
  // Objects that carry a key of ours, in pages: `next` is empty before the first and after the
  // last.
  virtual std::vector<NetboxObject> page(std::string& next, int most) = 0;
  virtual std::vector<NetboxObject> find(const std::string& key) = 0;
};

}  // namespace addrflow::ports
