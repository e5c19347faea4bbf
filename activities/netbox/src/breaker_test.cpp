#include "addrflow/netbox/breaker.hpp"

#include <gtest/gtest.h>

namespace addrflow::netbox {
namespace {

using std::chrono::milliseconds;
using State = Breaker::State;

class BreakerTest : public testing::Test {
 protected:
  Clock::time_point now;
  Breaker breaker{{.failures = 3, .rest = milliseconds{1'000}}, [this] { return now; }};
  void fail(int times) {
    for (int i = 0; i < times; ++i) {
      ASSERT_TRUE(breaker.may_send());
      breaker.failed("down");
    }
  }
};

TEST_F(BreakerTest, OpensAfterFailuresInARowOnly) {
  fail(2);
  breaker.answered();
  fail(2);
  EXPECT_EQ(breaker.look().state, State::kClosed);
  fail(1);
  EXPECT_EQ(breaker.look().state, State::kOpen);
  EXPECT_EQ(breaker.look().why, "down");
  EXPECT_FALSE(breaker.may_send());
}

TEST_F(BreakerTest, AfterItsRestOneRequestFindsOut) {
  fail(3);
  now += milliseconds{1'000};
  EXPECT_EQ(breaker.look().state, State::kHalfOpen);
  EXPECT_TRUE(breaker.may_send());
  EXPECT_FALSE(breaker.may_send());
  breaker.failed("still down");
  EXPECT_FALSE(breaker.may_send());
  EXPECT_EQ(breaker.look().rest, milliseconds{1'000});
  now += milliseconds{1'000};
  EXPECT_TRUE(breaker.may_send());
  breaker.answered();
  EXPECT_EQ(breaker.look().state, State::kClosed);
  EXPECT_TRUE(breaker.may_send());
  EXPECT_TRUE(breaker.may_send());
}

TEST_F(BreakerTest, ARequestThatNeverLeftSaysNothing) {
  fail(3);
  now += milliseconds{1'000};
  EXPECT_TRUE(breaker.may_send());
  breaker.not_sent();
  EXPECT_TRUE(breaker.may_send());
}

}  // namespace
}  // namespace addrflow::netbox
