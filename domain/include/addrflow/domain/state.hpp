// The states of a binding (one address or prefix of a service), the same for both families (A1,
// B1).
#pragma once

#include <array>
#include <optional>
#include <string_view>

namespace addrflow::domain {

enum class State {
  kPending,    // reserved for somebody, or a free row (R10, R18)
  kAllocated,  // an address is held and known to AAA, the line is not yet entitled to use it
  kActive,     // entitled (R27); whether the subscriber is online is accounting's to say
  kSuspended,  // held, but restricted for as long as one hold is left
  kRevoking,   // taken back; at least one other system has not confirmed it
  kRevoked,    // taken back everywhere; the space may still be held until its release gate opens
  kFailed,     // allocate or activate broke off and a person must look
};

inline constexpr std::array kStates{State::kPending,   State::kAllocated, State::kActive,
                                    State::kSuspended, State::kRevoking,  State::kRevoked,
                                    State::kFailed};

// Lower case, as every message, row and metric has it.
std::string_view to_string(State state);
std::optional<State> parse_state(std::string_view text);

// A live binding belongs to a holder: nobody else may have its space, and it counts as in use.
bool is_live(State state);

}  // namespace addrflow::domain
