// What an audit finds: the invariants I1–I8 (docs/operations.md).
#pragma once

#include <addrflow/ports/listing.hpp>
#include <cstdint>
#include <string>
#include <vector>

namespace addrflow::ledger {

// Null: that system is not looked at.
struct AuditPeers {
  ports::AaaListing* aaa = nullptr;
  ports::NetboxListing* netbox = nullptr;
};

struct AuditReport {
  enum class Result { kClean, kViolated, kCouldNotCheck };
  struct Violation {
    std::string invariant;  // "I1"
    std::string tenant;
    std::string subscriber;  // empty: of no single one
    std::string system;      // ledger, aaa, netbox
    std::string what;
    std::string expected;
    std::string found;
    auto operator<=>(const Violation&) const = default;
  };
  static constexpr std::size_t kMost = 10'000;  // violations that are kept
  Result result = Result::kClean;
  std::vector<Violation> violations;
  bool truncated = false;
  std::int64_t services = 0;
  std::int64_t skipped = 0;               // an operation was under way
  std::vector<std::string> systems;       // looked at
  std::vector<std::string> out_of_reach;  // "aaa: …": could not be looked at
  std::string why;                        // kCouldNotCheck
};

// What was done to a restored ledger.
struct Reconciled {
  std::int64_t services_moved = 0;  // their number was behind
  std::int64_t services_made = 0;   // the ledger did not know them
  std::int64_t spaces_blocked = 0;
  std::int64_t holdings_closed = 0;  // AAA had given the space to somebody else
  std::vector<std::string> notes;    // the first hundred, in words
};

}  // namespace addrflow::ledger
