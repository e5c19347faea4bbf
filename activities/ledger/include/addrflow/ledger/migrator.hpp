// Brings the ledger's tables up to date, and back.
#pragma once

#include <string>
#include <vector>

namespace addrflow::ledger {

struct Migration {
  int version = 0;
  std::string name;
  bool applied = false;
  bool changed = false;  // the file is not the one that was applied
  std::string applied_at;
};

// One transaction a migration, one migrator at a time (advisory lock). Throws `LedgerError`.
class Migrator {
 public:
  explicit Migrator(std::string url) : url_(std::move(url)) {}

  std::vector<Migration> status();
  // Applies what is missing; returns what was, or with `dry_run` would be, applied. Refuses when an
  // applied migration's file has changed since.
  std::vector<Migration> up(bool dry_run = false);
  // Takes the newest `steps` back.
  std::vector<Migration> down(int steps, bool dry_run = false);

 private:
  std::string url_;
};

}  // namespace addrflow::ledger
