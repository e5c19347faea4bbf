// Brings the ledger's tables up to date, and back; takes over the tables of the platform before it.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace addrflow::ledger {

struct Migration {
  int version = 0;
  std::string name;
  bool applied = false;
  bool changed = false;  // the file is not the one that was applied
  std::string applied_at;
};

// A pool that the platform's tables do not describe, or describe without its prefix.
struct PoolPrefix {
  std::string tenant;
  std::string name;
  std::string prefix;
};

// In which NetBox VRF a pool's objects are: the platform's tables do not say it.
struct PoolVrf {
  std::string tenant;
  std::string name;
  std::int64_t vrf_id = 0;
};

struct MigrateOptions {
  bool dry_run = false;
  std::string legacy_schema;  // where the platform's tables are; empty: in the current schema
  std::vector<PoolPrefix> pools;
  std::vector<PoolVrf> vrfs;         // of the other pools: NetBox's global table
  std::chrono::hours grace{24 * 7};  // before imported bindings count as leaks
};

// A live row that could not become a binding: it stays in the old table, and its address is
// blocked.
struct SetAside {
  std::string table;
  std::string id;
  std::string tenant;
  std::string subscriber;
  std::string space;
  std::string why;
};

struct LegacyReport {
  std::string schema;
  std::string shape;  // what was found: "status", "lifecycle"
  std::vector<std::pair<std::string, std::int64_t>> counts;
  std::vector<SetAside> set_aside;
  std::vector<std::string> problems;  // must be solved first: nothing is changed while there is one
};

struct UpResult {
  std::vector<Migration> applied;
  std::optional<LegacyReport> legacy;  // when tables of the platform were, or would be, taken over
};

struct Difference {
  enum class Kind { kMissing, kDifferent, kExtra };
  Kind kind = Kind::kMissing;
  std::string what;      // "index ip_reservations_one_live"
  std::string expected;  // kDifferent
  std::string found;     // kDifferent
};

// One migrator at a time (advisory lock). One transaction a migration; a take-over is one
// transaction with all of them. Throws `LedgerError`.
class Migrator {
 public:
  explicit Migrator(std::string url) : url_(std::move(url)) {}

  std::vector<Migration> status();
  // Applies what is missing; returns what was, or with `dry_run` would be, applied. Refuses when an
  // applied migration's file has changed since.
  std::vector<Migration> up(bool dry_run = false);
  UpResult up(const MigrateOptions& options);
  // Takes the newest `steps` back. With the first one the platform's tables come back, if there
  // were any, with what became of their rows. That is refused while bindings have been made since
  // that the platform's tables do not know, unless `discard_new`.
  std::vector<Migration> down(int steps, bool dry_run = false, bool discard_new = false);
  // Takes back everything newer than `version`, in one transaction.
  std::vector<Migration> down_to(int version, bool dry_run = false, bool discard_new = false);
  // Compares every table, column, type, index, constraint, function, trigger and policy with what
  // the migrations make. Extra objects are named only on tables of ours.
  std::vector<Difference> verify();

 private:
  std::string url_;
};

}  // namespace addrflow::ledger
