// A pool that a person changes: found and locked, compared, and the change on record.
#pragma once

#include <addrflow/ledger/ledger.hpp>
#include <chrono>
#include <string>
#include <vector>

#include "rows.hpp"

namespace addrflow::ledger {

constexpr std::chrono::seconds kDefaultHold{86'400};

struct KnownPool {
  std::string id;
  std::string tenant;
  std::string name;
  std::string family;
  std::string prefix;
  int chunk_length = 32;
};

void must_say_why(const By& by);
// By name or id; locked.
KnownPool known_pool(Tx& tx, const std::string& tenant, const std::string& name);
void note_pool_change(Tx& tx, const KnownPool& pool, const std::string& event,
                      const std::string& what, const By& by);

void check_group(const std::string& group);
void check_nas_ips(const std::vector<std::string>& nas_ips);
void check_netbox_mode(const std::string& mode);
void check_times(std::chrono::seconds quarantine, std::chrono::seconds hold_time);
// Throws `invalid_argument`: a session may live on after the hold time.
void must_outlive_sessions(std::chrono::seconds hold_time, const Settings& settings);
// An address or prefix in the one form in which PostgreSQL writes it; else as it is.
std::string written(const std::string& space);
// In order, each once: "a, b".
std::string listed(std::vector<std::string> words);
// "a, b" of one column of words.
std::string listed_in(Tx& tx, const std::string& sql, const std::string& pool_id);
std::string nas_ips_of(Tx& tx, const std::string& pool_id);

// NetBox is still to be told, or to pick, something in this pool.
bool netbox_is_owed(Tx& tx, const std::string& pool_id);

}  // namespace addrflow::ledger
