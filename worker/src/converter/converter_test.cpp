#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <tempora/failure.hpp>
#include <tempora/payload.hpp>
#include <tempora/search_attributes.hpp>

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

}  // namespace
}  // namespace tempora
