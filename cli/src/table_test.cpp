#include "table.hpp"

#include <gtest/gtest.h>

namespace addrflow::cli {
namespace {

TEST(Table, ColumnsAreAlignedAndEmptyOnesLeftOut) {
  const Table table{{"subscriber", "hold", "state"},
                    {{"42", "", "active"}, {"4711", "", "failed"}}};
  EXPECT_EQ(table.text(false),
            "subscriber  state\n"
            "42          active\n"
            "4711        failed\n");
}

TEST(Table, OnlyATerminalGetsSequences) {
  const Table table{{"state"}, {{"active"}}};
  EXPECT_EQ(table.text(true), "\033[1mstate\033[0m\nactive\n");
  EXPECT_EQ(table.text(false).find('\033'), std::string::npos);
}

TEST(Table, AnAgeIsToldInItsLargestUnit) {
  EXPECT_EQ(age_text(40), "40 s");
  EXPECT_EQ(age_text(300), "5 min");
  EXPECT_EQ(age_text(7'200), "2 h");
  EXPECT_EQ(age_text(300'000), "3 d");
}

}  // namespace
}  // namespace addrflow::cli
