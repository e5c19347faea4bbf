// What a ledger activity throws.
#pragma once

#include <addrflow/domain/errors.hpp>
#include <stdexcept>
#include <string>

namespace addrflow::ledger {

class LedgerError : public std::runtime_error {
 public:
  LedgerError(domain::ErrorCode code, const std::string& message, bool in_doubt = false)
      : std::runtime_error(message), code_(code), in_doubt_(in_doubt) {}

  domain::ErrorCode code() const { return code_; }
  bool retryable() const { return domain::retryable(code_); }
  // The commit was sent and the connection broke: nobody knows. The same call again finds out,
  // because every step is idempotent.
  bool in_doubt() const { return in_doubt_; }

 private:
  domain::ErrorCode code_;
  bool in_doubt_;
};

}  // namespace addrflow::ledger
