#include "type_limits.hpp"

#include <gtest/gtest.h>

namespace tempora::activity {
namespace {

TEST(TypeLimits, LetTheRestWaitInOrder) {
  TypeLimits limits{{{"narrow", 1}}};
  std::string ran;
  for (const char* name : {"a", "b", "c"}) limits.run("narrow", [&ran, name] { ran += name; });
  limits.run("wide", [&ran] { ran += "w"; });
  EXPECT_EQ(ran, "aw");
  limits.ended("narrow");
  EXPECT_EQ(ran, "awb");
  limits.ended("wide");
  EXPECT_EQ(ran, "awb") << "one type makes no room for another";
  limits.ended("narrow");
  limits.ended("narrow");
  limits.run("narrow", [&ran] { ran += "d"; });
  EXPECT_EQ(ran, "awbcd");
}

TEST(TypeLimits, ForgetWhatWaitsWhenTheWorkerEnds) {
  TypeLimits limits{{{"narrow", 1}}};
  const auto held = std::make_shared<int>(0);
  limits.run("narrow", [] {});
  limits.run("narrow", [held] { ++*held; });
  limits.clear();
  EXPECT_EQ(held.use_count(), 1);
  limits.ended("narrow");
  EXPECT_EQ(*held, 0);
}

}  // namespace
}  // namespace tempora::activity
