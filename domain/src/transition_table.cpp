#include <addrflow/domain/transition_table.hpp>
#include <array>

namespace addrflow::domain {
namespace {

constexpr Verdict move_to(State to, Guard guard = Guard::kNone) {
  return {Verdict::Kind::kMove, to, ErrorCode::kOk, guard};
}
constexpr Verdict move_as(Guard guard) {
  return {Verdict::Kind::kMove, std::nullopt, ErrorCode::kOk, guard};
}
constexpr Verdict repeat(State at, Guard guard = Guard::kNone) {
  return {Verdict::Kind::kRepeat, at, ErrorCode::kOk, guard};
}
constexpr Verdict nothing_held() {
  return {Verdict::Kind::kRepeat, std::nullopt, ErrorCode::kOk, Guard::kNone};
}
constexpr Verdict illegal() {
  return {Verdict::Kind::kRefuse, std::nullopt, ErrorCode::kIllegalTransition, Guard::kNone};
}
constexpr Verdict absent() {
  return {Verdict::Kind::kRefuse, std::nullopt, ErrorCode::kNotFound, Guard::kNone};
}

constexpr std::size_t kColumns = 1 + kStates.size();
using Row = std::array<Verdict, kColumns>;
using enum State;

// What changes a line as it lives: its state stays.
constexpr Row kChange{absent(),
                      illegal(),
                      move_to(kAllocated, Guard::kOtherValue),
                      move_to(kActive, Guard::kOtherValue),
                      move_to(kSuspended, Guard::kOtherValue),
                      illegal(),
                      illegal(),
                      illegal()};

// Columns: no binding, pending, allocated, active, suspended, revoking, revoked, failed. Rows in
// the order of `Operation`.
constexpr std::array<Row, kOperations.size()> kTable{
    // allocate
    Row{move_to(kAllocated), move_to(kAllocated), repeat(kAllocated, Guard::kSameRequest),
        illegal(), illegal(), move_to(kAllocated, Guard::kSameHolder),
        move_to(kAllocated, Guard::kNextGeneration), move_to(kAllocated, Guard::kHoldsNothing)},
    // activate
    Row{absent(), illegal(), move_to(kActive), repeat(kActive), illegal(), illegal(), illegal(),
        illegal()},
    // suspend
    Row{absent(), illegal(), illegal(), move_to(kSuspended, Guard::kAddsHold),
        repeat(kSuspended, Guard::kAddsHold), illegal(), illegal(), illegal()},
    // reactivate
    Row{absent(), illegal(), illegal(), repeat(kActive), move_to(kActive, Guard::kLastHold),
        illegal(), illegal(), illegal()},
    // revoke
    Row{nothing_held(), move_to(kRevoking), move_to(kRevoking), move_to(kRevoking),
        move_to(kRevoking), repeat(kRevoking), repeat(kRevoked), move_to(kRevoking)},
    // retry
    Row{absent(), illegal(), illegal(), illegal(), illegal(),
        move_to(kRevoking, Guard::kRunsStepAgain), illegal(), move_as(Guard::kRunsStepAgain)},
    // adopt
    Row{absent(), illegal(), illegal(), illegal(), illegal(), illegal(), illegal(),
        move_as(Guard::kNamedState)},
    // force_release
    Row{absent(), illegal(), move_to(kAllocated, Guard::kFormerSpace),
        move_to(kActive, Guard::kFormerSpace), move_to(kSuspended, Guard::kFormerSpace),
        move_to(kRevoked), move_to(kRevoked, Guard::kSpaceHeld), move_to(kRevoked)},
    kChange,  // move
    kChange,  // rebind
    kChange,  // change_plan
    kChange,  // readdress
};

std::string cell_text(const Verdict& verdict) {
  std::string text;
  switch (verdict.kind) {
    case Verdict::Kind::kMove:
      text = verdict.to ? "→ " + std::string{to_string(*verdict.to)} : "→";
      break;
    case Verdict::Kind::kRepeat: text = "success"; break;
    case Verdict::Kind::kRefuse: return "`" + std::string{to_string(verdict.code)} + "`";
  }
  if (verdict.guard != Guard::kNone) text += " (" + std::string{to_string(verdict.guard)} + ")";
  return text;
}

}  // namespace

Verdict check(Operation operation, std::optional<State> state) {
  const std::size_t column = state ? 1 + static_cast<std::size_t>(*state) : 0;
  return kTable.at(static_cast<std::size_t>(operation)).at(column);
}

std::string_view to_string(Verdict::Kind kind) {
  switch (kind) {
    case Verdict::Kind::kMove: return "move";
    case Verdict::Kind::kRepeat: return "repeat";
    case Verdict::Kind::kRefuse: return "refuse";
  }
  return "unknown";
}

std::string_view to_string(Guard guard) {
  switch (guard) {
    case Guard::kNone: return "";
    case Guard::kNextGeneration: return "next generation";
    case Guard::kSameHolder: return "same holder, space still held";
    case Guard::kHoldsNothing: return "if it holds nothing";
    case Guard::kAddsHold: return "adds its hold";
    case Guard::kLastHold: return "when the last hold is gone";
    case Guard::kSameRequest: return "as the line is; else `conflict`";
    case Guard::kRunsStepAgain: return "the step runs again";
    case Guard::kNamedState: return "the state that a person confirms";
    case Guard::kSpaceHeld: return "if the space is still held";
    case Guard::kOtherValue: return "if anything differs";
    case Guard::kFormerSpace: return "its former space, if that is held";
  }
  return "";
}

std::string refusal(Operation operation, std::optional<State> state) {
  const std::string name{to_string(operation)};
  if (!state) return name + " is not possible: nothing is allocated to this service";
  return name + " is not possible: the binding is " + std::string{to_string(*state)};
}

std::string table_markdown() {
  std::string text = "| operation | none |";
  for (const State state : kStates) text += " " + std::string{to_string(state)} + " |";
  text += "\n|---|---|";
  for (std::size_t i = 0; i < kStates.size(); ++i) text += "---|";
  text += "\n";
  for (const Operation operation : kOperations) {
    text += "| " + std::string{to_string(operation)} + " | " +
            cell_text(check(operation, std::nullopt)) + " |";
    for (const State state : kStates) text += " " + cell_text(check(operation, state)) + " |";
    text += "\n";
  }
  return text;
}

}  // namespace addrflow::domain
