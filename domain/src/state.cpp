#include <addrflow/domain/operation.hpp>
#include <addrflow/domain/state.hpp>

namespace addrflow::domain {

std::string_view to_string(State state) {
  switch (state) {
    case State::kPending: return "pending";
    case State::kAllocated: return "allocated";
    case State::kActive: return "active";
    case State::kSuspended: return "suspended";
    case State::kRevoking: return "revoking";
    case State::kRevoked: return "revoked";
    case State::kFailed: return "failed";
  }
  return "unknown";
}

std::optional<State> parse_state(std::string_view text) {
  for (const State state : kStates) {
    if (to_string(state) == text) return state;
  }
  return std::nullopt;
}

bool is_live(State state) {
  switch (state) {
    case State::kAllocated:
    case State::kActive:
    case State::kSuspended:
    case State::kRevoking: return true;
    case State::kPending:
    case State::kRevoked:
    case State::kFailed: return false;
  }
  return false;
}

std::string_view to_string(Operation operation) {
  switch (operation) {
    case Operation::kAllocate: return "allocate";
    case Operation::kActivate: return "activate";
    case Operation::kSuspend: return "suspend";
    case Operation::kReactivate: return "reactivate";
    case Operation::kRevoke: return "revoke";
    case Operation::kRetry: return "retry";
    case Operation::kAdopt: return "adopt";
    case Operation::kForceRelease: return "force_release";
    case Operation::kMove: return "move";
    case Operation::kRebind: return "rebind";
    case Operation::kChangePlan: return "change_plan";
    case Operation::kReaddress: return "readdress";
  }
  return "unknown";
}

std::optional<Operation> parse_operation(std::string_view text) {
  for (const Operation operation : kOperations) {
    if (to_string(operation) == text) return operation;
  }
  return std::nullopt;
}

}  // namespace addrflow::domain
