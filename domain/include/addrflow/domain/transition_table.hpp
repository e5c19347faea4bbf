// Operation × state → what happens: the one table that API, workflows, ledger and documentation go
// by.
#pragma once

#include <addrflow/domain/errors.hpp>
#include <addrflow/domain/operation.hpp>
#include <addrflow/domain/state.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace addrflow::domain {

// What else must hold for a move; only the ledger can see it.
enum class Guard {
  kNone,
  kNextGeneration,  // a new generation begins
  kSameHolder,      // the old space is still held for this service; it is taken up again in a new
                    // generation
  kHoldsNothing,    // refused as `illegal_transition` while the binding still holds space
  kAddsHold,        // the reason joins the set of holds
  kLastHold,     // `to` only when the removed hold was the last; else success, and the state stays
  kSameRequest,  // another `requested_address` is a `conflict`
  kRunsStepAgain,  // the step that broke off or is unconfirmed runs again; the state moves when it
                   // succeeds
  kNamedState,     // the state that the request names, checked against the ledger
  kOtherValue,     // a move, in the same state, only where the request names another value
  kFormerSpace,  // of space that the line had before its present one, and only while there is any:
                 // else the move is illegal
  kSpaceHeld,    // a move only while the space is held; else nothing is left to do: a repeat
};

struct Verdict {
  enum class Kind {
    kMove,    // go to `to`, if `guard` holds
    kRepeat,  // the target state holds already: success, no effect is repeated
    kRefuse,  // `code` says why
  };
  Kind kind = Kind::kRefuse;
  // Where the operation ends. A revoke that moves passes through `revoking`: `to` is `revoking`,
  // and the binding becomes `revoked` once every other system has confirmed. Empty: refused,
  // nothing is there, or `guard` decides.
  std::optional<State> to;
  ErrorCode code = ErrorCode::kOk;
  Guard guard = Guard::kNone;

  bool operator==(const Verdict&) const = default;
};

// `state` is empty when the service has no binding of that family.
Verdict check(Operation operation, std::optional<State> state);

std::string_view to_string(Verdict::Kind kind);
std::string_view to_string(Guard guard);

// The refusal's text: "suspend is not possible: the binding is revoked".
std::string refusal(Operation operation, std::optional<State> state);

// The table as Markdown (docs/states.md).
std::string table_markdown();

}  // namespace addrflow::domain
