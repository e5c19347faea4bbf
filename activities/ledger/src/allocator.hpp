// Which space a service gets, and from which pool. One call a pool and a round trip; the decision
// itself stands in migrations/0003 (take_space, request_space), so that no row waits for a client.
#pragma once

#include <string>
#include <vector>

#include "rows.hpp"

namespace addrflow::ledger {

struct Settings;

struct Pool {
  std::string id;
  std::string name;
  std::string netbox_mode;
  std::int64_t domain = 0;
  int delegated_length = 32;  // what a line gets
  int chunk_length = 32;      // shorter: the pool delegates mixed sizes, down to /64
};

struct Wish {
  std::string family;
  int prefix_length = 0;  // of a delegated prefix; 0: the pool's own
  // Names, ids or groups in the order of spill-over, with commas between; empty: the pools of the
  // NAS, else the tenant's only one or only group.
  std::string pool;
  std::string requested;  // empty: the allocator picks
  std::int64_t service_id = 0;
  std::string nas_ip;                  // empty: not known
  std::vector<std::string> exhausted;  // ids of pools that are out of the question
  bool netbox_picks = false;           // where a pool is authoritative
};

struct Picked {
  Pool pool;
  std::string space;   // "203.0.113.7" or "2001:db8:1200::/56"; empty: NetBox is to pick
  std::string method;  // auto, requested, sticky
  std::string rested;  // when the last holding of it ended
};

// The pools that may serve the wish, in order. Throws, with the field's name, when there is none or
// when it is not clear which.
std::vector<Pool> pools_for(Tx& tx, const Wish& wish);
// Throws unless the wish can be met as far as it names a pool or a space. Writes nothing.
void check_requested(Tx& tx, const Wish& wish);
// The length of a prefix as the ledger writes it.
int mask_of(const std::string& prefix);
// A line that gets other space stays in its pool, or its pool's group, with a prefix of its size,
// unless it is told otherwise, its pool is draining or it moves to another NAS.
void stay_in_pool(Tx& tx, Wish& wish, const Row& held, const std::string& former_nas);
// Whether space that the service still holds serves its next wish: it is of a pool that the wish
// names and of one for its NAS, and nobody has given it up. Throws `conflict`, with the field's
// name, where the wish asks for other space, or for this very space and it does not serve.
bool takes_up_again(Tx& tx, const Row& held, const Wish& wish);
// Whether the wish names this pool, alone or among others; one that names none means any.
bool means_pool(Tx& tx, const Wish& wish, const std::string& pool_id);
// Takes space and marks it held; others see it held once the transaction commits.
Picked pick(Tx& tx, const Wish& wish);
// Space that the service still holds goes to its next holding.
Picked pick_again(Tx& tx, const Row& held);
// What `pick` would take now; nothing is taken, and somebody else may come first.
Picked peek(Tx& tx, const Wish& wish);
Picked peek_again(Tx& tx, const Row& held);
// Writes down who holds it now.
std::int64_t open_holding(Tx& tx, const ServiceRef& service, const Wish& wish,
                          std::int64_t generation, const Picked& picked, std::int64_t operation,
                          bool exposed);
// Throws `no_such_pool` for a pool of which nobody has asked NetBox what it holds, and
// `netbox_failed` for an authoritative one where there is no NetBox.
void must_be_open(Tx& tx, const Settings& settings, const Pool& pool);
// Of a request that leaves NetBox alone where NetBox decides who holds the space.
LedgerError behind_netbox(const Pool& pool);
// Nobody gets it any more.
void block_space(Tx& tx, const std::string& pool_id, const std::string& space,
                 const std::string& why);

}  // namespace addrflow::ledger
