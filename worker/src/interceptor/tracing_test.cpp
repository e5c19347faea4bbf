#include <gtest/gtest.h>

#include <tempora/tracing.hpp>

namespace tempora {
namespace {

const std::string kGood = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

TEST(Tracing, TakesWhatTheW3CAllows) {
  EXPECT_TRUE(is_traceparent(kGood));
  EXPECT_TRUE(is_traceparent("01" + kGood.substr(2) + "-more"));
}

TEST(Tracing, RefusesWhatTheW3CForbids) {
  EXPECT_FALSE(is_traceparent(""));
  EXPECT_FALSE(is_traceparent(kGood + "-more")) << "version 00 has four parts";
  EXPECT_FALSE(is_traceparent("ff" + kGood.substr(2)));
  EXPECT_FALSE(is_traceparent("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"));
  EXPECT_FALSE(is_traceparent("00-" + std::string(32, '0') + "-00f067aa0ba902b7-01"));
  EXPECT_FALSE(
      is_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-" + std::string(16, '0') + "-01"));
}

TEST(Tracing, ABrokenHeaderIsNoTrace) {
  Headers headers;
  EXPECT_FALSE(trace_of(headers));
  headers[kTraceHeader] = PayloadCodec<int>::encode(7);
  EXPECT_FALSE(trace_of(headers));
  write_trace({.traceparent = "nonsense"}, headers);
  EXPECT_FALSE(trace_of(headers));
  write_trace({.traceparent = kGood, .tracestate = "vendor=1"}, headers);
  EXPECT_EQ(trace_of(headers), (TraceContext{kGood, "vendor=1"}));
}

}  // namespace
}  // namespace tempora
