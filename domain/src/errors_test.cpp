#include <gtest/gtest.h>
#include <addrflow/domain/errors.hpp>
#include <set>

namespace addrflow::domain {
namespace {

TEST(Errors, TheListIsInTheOrderOfTheCodes) {
  std::size_t index = 0;
  for (const ErrorInfo& error : all_errors()) {
    EXPECT_EQ(static_cast<std::size_t>(error.code), index++);
    EXPECT_EQ(&info(error.code), &error);
  }
  EXPECT_EQ(index, static_cast<std::size_t>(ErrorCode::kLedgerRestored) + 1);
}

TEST(Errors, NamesAreDistinctAndGoThereAndBack) {
  std::set<std::string_view> names;
  for (const ErrorInfo& error : all_errors()) {
    EXPECT_TRUE(names.insert(error.name).second) << error.name;
    EXPECT_EQ(parse_error_code(error.name), error.code);
    EXPECT_FALSE(error.message.empty());
  }
  EXPECT_FALSE(parse_error_code("no_such_code"));
}

TEST(Errors, OnlyWhatMayPassByItselfIsRetryable) {
  for (const ErrorInfo& error : all_errors()) {
    const bool expected =
        error.code == ErrorCode::kUnavailable || error.code == ErrorCode::kInternal;
    EXPECT_EQ(retryable(error.code), expected) << error.name;
  }
}

TEST(Errors, ExhaustionHasTheSeedsWords) {
  EXPECT_EQ(info(ErrorCode::kPoolExhausted).message, "No available IP addresses");
}

}  // namespace
}  // namespace addrflow::domain
