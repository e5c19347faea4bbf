#include <gtest/gtest.h>
#include <addrflow/domain/transition_table.hpp>
#include <fstream>
#include <map>
#include <sstream>
#include <vector>

namespace addrflow::domain {
namespace {

// The table written down a second time, in another form: a letter a cell, columns none, pending,
// allocated, active, suspended, revoking, revoked, failed. m = move, s = success without a move, i
// = illegal_transition, n = not_found.
const std::map<Operation, std::string> kExpected{
    {Operation::kAllocate, "mmsiimmm"},   {Operation::kActivate, "nimsiiii"},
    {Operation::kSuspend, "niimsiii"},    {Operation::kReactivate, "niismiii"},
    {Operation::kRevoke, "smmmmssm"},     {Operation::kRetry, "niiiimim"},
    {Operation::kAdopt, "niiiiiim"},      {Operation::kForceRelease, "nimmmmmm"},
    {Operation::kMove, "nimmmiii"},       {Operation::kRebind, "nimmmiii"},
    {Operation::kChangePlan, "nimmmiii"}, {Operation::kReaddress, "nimmmiii"},
};

std::vector<std::optional<State>> columns() {
  std::vector<std::optional<State>> all{std::nullopt};
  for (const State state : kStates) all.emplace_back(state);
  return all;
}

char letter(const Verdict& verdict) {
  switch (verdict.kind) {
    case Verdict::Kind::kMove: return 'm';
    case Verdict::Kind::kRepeat: return 's';
    case Verdict::Kind::kRefuse: return verdict.code == ErrorCode::kNotFound ? 'n' : 'i';
  }
  return '?';
}

TEST(TransitionTable, EveryCellIsTheDesigns) {
  for (const Operation operation : kOperations) {
    std::string row;
    for (const auto& state : columns()) row += letter(check(operation, state));
    EXPECT_EQ(row, kExpected.at(operation)) << to_string(operation);
  }
}

TEST(TransitionTable, EveryRefusalHasACodeAndEveryOtherCellHasNone) {
  for (const Operation operation : kOperations) {
    for (const auto& state : columns()) {
      const Verdict verdict = check(operation, state);
      EXPECT_EQ(verdict.kind == Verdict::Kind::kRefuse, verdict.code != ErrorCode::kOk);
      if (verdict.kind == Verdict::Kind::kRefuse) EXPECT_FALSE(verdict.to);
    }
  }
}

TEST(TransitionTable, ARepeatStaysWhereItIs) {
  for (const Operation operation : kOperations) {
    for (const auto& state : columns()) {
      const Verdict verdict = check(operation, state);
      if (verdict.kind == Verdict::Kind::kRepeat) EXPECT_EQ(verdict.to, state);
    }
  }
}

TEST(TransitionTable, OnlyAPersonLeavesFailedWithoutRevoking) {
  EXPECT_EQ(check(Operation::kActivate, State::kFailed).code, ErrorCode::kIllegalTransition);
  EXPECT_EQ(check(Operation::kAdopt, State::kFailed).guard, Guard::kNamedState);
  EXPECT_EQ(check(Operation::kAllocate, State::kFailed).guard, Guard::kHoldsNothing);
}

TEST(TransitionTable, ARefusalNamesOperationAndState) {
  EXPECT_EQ(refusal(Operation::kSuspend, State::kRevoked),
            "suspend is not possible: the binding is revoked");
  EXPECT_EQ(refusal(Operation::kActivate, std::nullopt),
            "activate is not possible: nothing is allocated to this service");
}

TEST(TransitionTable, TheDocumentationIsThisTable) {
  std::ifstream file{std::string{ADDRFLOW_DOCS_DIR} + "/states.md"};
  ASSERT_TRUE(file) << "docs/states.md is missing";
  std::stringstream text;
  text << file.rdbuf();
  EXPECT_NE(text.str().find(table_markdown()), std::string::npos)
      << "docs/states.md should contain this table:\n"
      << table_markdown();
}

TEST(State, NamesGoThereAndBack) {
  for (const State state : kStates) EXPECT_EQ(parse_state(to_string(state)), state);
  for (const Operation operation : kOperations)
    EXPECT_EQ(parse_operation(to_string(operation)), operation);
  EXPECT_FALSE(parse_state("ACTIVE"));
  EXPECT_FALSE(parse_operation("resume"));
}

}  // namespace
}  // namespace addrflow::domain
