// Finds out that this ledger was restored to an earlier state (docs/decisions/0017).
#pragma once

#include <addrflow/ledger/ledger.hpp>
#include <mutex>
#include <string>

#include "rows.hpp"

namespace addrflow::ledger {

struct Restored : LedgerError {
  explicit Restored(const std::string& detail)
      : LedgerError(ErrorCode::kLedgerRestored,
                    "the ledger was restored to an earlier state: " + detail +
                        "; run `addrflow ledger reconcile-after-restore`") {}
};

// Remembers for which incarnation of the database (server start, database, table file) the witness
// was asked: a restore changes one of them.
class RestoreWatch {
 public:
  explicit RestoreWatch(ports::AaaListing& witness) : witness_(witness) {}

  // Throws `Restored`, and `unavailable` when the witness cannot be asked.
  void check(const std::string& incarnation, std::int64_t newest_here);
  void forget();

 private:
  ports::AaaListing& witness_;
  std::mutex mutex_;
  std::string verified_;
};

template <class F>
auto Ledger::watched(F work) {
  try {
    return work();
  } catch (const Restored& restored) {
    mark_restored(restored.what());
    throw;
  }
}

}  // namespace addrflow::ledger
