// What may be asked of a service.
#pragma once

#include <array>
#include <optional>
#include <string_view>

namespace addrflow::domain {

enum class Operation {
  kAllocate,
  kActivate,
  kSuspend,
  kReactivate,
  kRevoke,
  kRetry,
  kAdopt,
  kForceRelease,
  kMove,        // to another NAS
  kRebind,      // another username
  kChangePlan,  // another rate
  kReaddress,   // another address or prefix
};

inline constexpr std::array kOperations{
    Operation::kAllocate, Operation::kActivate, Operation::kSuspend,    Operation::kReactivate,
    Operation::kRevoke,   Operation::kRetry,    Operation::kAdopt,      Operation::kForceRelease,
    Operation::kMove,     Operation::kRebind,   Operation::kChangePlan, Operation::kReaddress};

// What changes a line as it lives; its state stays.
constexpr bool changes_line(Operation operation) {
  return operation == Operation::kMove || operation == Operation::kRebind ||
         operation == Operation::kChangePlan || operation == Operation::kReaddress;
}
std::string_view to_string(Operation operation);
std::optional<Operation> parse_operation(std::string_view text);

}  // namespace addrflow::domain
