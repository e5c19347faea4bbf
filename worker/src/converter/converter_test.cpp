#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <tempora/failure.hpp>
#include <tempora/payload.hpp>
#include <tempora/search_attributes.hpp>
#include <tuple>
#include <utility>
#include <vector>

#include "converter/time.hpp"

namespace tempora {
namespace {

using ::testing::HasSubstr;

template <class T>
T through(const T& value) {
  return PayloadCodec<T>::decode(PayloadCodec<T>::encode(value));
}

TEST(Payloads, EveryKindComesBackAsItWent) {
  EXPECT_EQ(through(std::string{"ü"}), "ü");
  EXPECT_EQ(through(std::vector<int>{1, 2}), (std::vector<int>{1, 2}));
  EXPECT_EQ(through(std::optional<int>{}), std::nullopt);
  EXPECT_EQ(through(std::optional<int>{7}), 7);
  EXPECT_EQ(through(std::vector<std::byte>{std::byte{0}, std::byte{255}}).size(), 2U);
  temporal::api::common::v1::WorkflowType type;
  type.set_name("x");
  EXPECT_EQ(through(type).name(), "x");
  Payload binary;
  (*binary.mutable_metadata())["encoding"] = "binary/protobuf";
  binary.set_data(type.SerializeAsString());
  EXPECT_EQ(PayloadCodec<temporal::api::common::v1::WorkflowType>::decode(binary).name(), "x");
}

Payload json_of(std::string text) { return detail::json_payload(std::move(text)); }

template <class T>
std::string refusal_of(const std::string& text) {
  try {
    PayloadCodec<T>::decode(json_of(text));
    return "";
  } catch (const PayloadError& error) {
    return error.what();
  }
}

TEST(Payloads, ANumberThatDoesNotFitIsRefusedAndNotCutOff) {
  EXPECT_THAT(refusal_of<int>("2147483648"), HasSubstr("2147483648 is no whole number from -2"));
  EXPECT_THAT(refusal_of<int>("-2147483649"), HasSubstr("whole number"));
  EXPECT_THAT(refusal_of<int>("6e66"), HasSubstr("whole number"));
  EXPECT_THAT(refusal_of<int>("1.5"), HasSubstr("whole number"));
  EXPECT_THAT(refusal_of<std::int64_t>("9223372036854775808"), HasSubstr("whole number"));
  EXPECT_THAT(refusal_of<std::int64_t>("1e19"), HasSubstr("whole number"));
  EXPECT_THAT(refusal_of<std::uint64_t>("-1"), HasSubstr("from 0 to 18446744073709551615"));
  EXPECT_THAT(refusal_of<std::uint64_t>("18446744073709551616"), HasSubstr("whole number"));
  EXPECT_THAT(refusal_of<std::vector<std::uint8_t>>("[1,256]"), HasSubstr("256"));
  EXPECT_THAT((refusal_of<std::map<std::string, std::vector<int>>>(R"({"a":[1e10]})")),
              HasSubstr("whole number"));
  EXPECT_THAT((refusal_of<std::pair<std::string, std::int16_t>>(R"(["a",40000])")),
              HasSubstr("40000"));
}

TEST(Payloads, EveryNumberThatFitsIsTaken) {
  EXPECT_EQ(PayloadCodec<int>::decode(json_of("-2147483648")), std::numeric_limits<int>::min());
  EXPECT_EQ(PayloadCodec<int>::decode(json_of("1e3")), 1000);
  EXPECT_EQ(PayloadCodec<std::uint8_t>::decode(json_of("255.0")), 255);
  EXPECT_EQ(through(std::numeric_limits<std::int64_t>::min()),
            std::numeric_limits<std::int64_t>::min());
  EXPECT_EQ(through(std::numeric_limits<std::int64_t>::max()),
            std::numeric_limits<std::int64_t>::max());
  EXPECT_EQ(through(std::numeric_limits<std::uint64_t>::max()),
            std::numeric_limits<std::uint64_t>::max());
  EXPECT_EQ(PayloadCodec<double>::decode(json_of("6e66")), 6e66);
  EXPECT_EQ((through(std::tuple{true, 1, std::string{"x"}})), (std::tuple{true, 1, "x"}));
  EXPECT_EQ((through(std::array{1, 2})), (std::array{1, 2}));
}

TEST(Payloads, IllDataIsRefusedWithItsReason) {
  const Payload text = PayloadCodec<std::string>::encode("x");
  EXPECT_THROW(PayloadCodec<int>::decode(text), PayloadError);
  Payload unknown = text;
  (*unknown.mutable_metadata())["encoding"] = "binary/encrypted";
  try {
    PayloadCodec<std::string>::decode(unknown);
    FAIL();
  } catch (const PayloadError& error) {
    EXPECT_THAT(error.what(), HasSubstr("binary/encrypted"));
  }
}

TEST(Failures, KeepTheirClassAndCausesOverTheWire) {
  const ApplicationError cause{"pool is full", "pool_exhausted", true, std::string{"pool-1"}};
  FailureProto proto;
  proto.set_message("activity failed");
  proto.mutable_activity_failure_info()->mutable_activity_type()->set_name("reserve");
  *proto.mutable_cause() = cause.proto();
  try {
    throw_failure(proto);
  } catch (const ActivityError& error) {
    EXPECT_EQ(error.activity_type(), "reserve");
    const ApplicationError* found = find_application_error(error);
    ASSERT_NE(found, nullptr);
    EXPECT_EQ(found->type(), "pool_exhausted");
    EXPECT_EQ(found->detail<std::string>(), "pool-1");
    EXPECT_FALSE(is_cancellation(error));
    return;
  }
  FAIL();
}

TEST(Failures, AnyExceptionBecomesAnApplicationFailureWithItsClassName) {
  EXPECT_EQ(to_proto(std::out_of_range{"x"}).application_failure_info().type(),
            "std::out_of_range");
}

TEST(Failures, HoldTextThatIsUtf8WhateverTheyWereGiven) {
  const std::string whole = "gr\xc3\xbc\xc3\x9f \"dich\"\n";
  EXPECT_EQ(to_proto(std::runtime_error{whole}).message(), whole);
  EXPECT_EQ(to_proto(std::runtime_error{"cut \xc3"}).message(), "cut \xef\xbf\xbd");
  const ApplicationError error{"\xff", "\xfe"};
  EXPECT_EQ(error.proto().message(), "\xef\xbf\xbd");
  EXPECT_EQ(error.type(), "\xef\xbf\xbd");
}

TEST(SearchAttributes, CarryTheirTypes) {
  SearchAttributes attributes;
  attributes.set_int("Count", 5)
      .set_datetime("When", TimePoint{std::chrono::seconds{1}})
      .unset("Gone");
  EXPECT_EQ(attributes.get<int>("Count"), 5);
  EXPECT_EQ(attributes.get<std::string>("When"), "1970-01-01T00:00:01.000000000Z");
  EXPECT_EQ(attributes.fields().at("Count").metadata().at("type"), "Int");
  SearchAttributes state;
  state.set_keyword("Gone", "x");
  state.apply(attributes);
  EXPECT_FALSE(state.contains("Gone"));
}

TEST(Times, BeyondTheReachOfNanosecondsAreTheLastThereAre) {
  google::protobuf::Timestamp far;
  far.set_seconds(std::numeric_limits<std::int64_t>::max());
  far.set_nanos(999'999'999);
  google::protobuf::Duration long_ago;
  long_ago.set_seconds(std::numeric_limits<std::int64_t>::min());
  EXPECT_GT(from_proto(far), TimePoint{std::chrono::sys_days{std::chrono::year{2116} / 1 / 1}});
  EXPECT_LT(from_proto(long_ago), std::chrono::years{-146});
  EXPECT_GT(from_proto(far) + from_proto(far).time_since_epoch(), from_proto(far));
}

TEST(Times, ComeBackAsTheyWent) {
  for (const Duration duration :
       {Duration{0}, Duration{1}, Duration{-1'500'000'000}, Duration{std::chrono::years{100}}}) {
    google::protobuf::Duration proto;
    write(duration, &proto);
    EXPECT_EQ(from_proto(proto), duration);
    google::protobuf::Timestamp stamp;
    write(TimePoint{duration}, &stamp);
    EXPECT_EQ(from_proto(stamp), TimePoint{duration});
  }
}

}  // namespace
}  // namespace tempora
