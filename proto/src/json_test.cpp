#include <addrflow/v1/activities.pb.h>
#include <addrflow/v1/lifecycle.pb.h>
#include <addrflow/v1/provision.pb.h>
#include <gtest/gtest.h>
#include <addrflow/v1/json.hpp>

namespace addrflow::v1 {
namespace {

TEST(Json, EverythingIsPrintedAndWhatIsUnsetIsNull) {
  SuspendRequest request;
  request.mutable_service()->set_tenant_id("acme");
  request.add_families("ipv4");
  EXPECT_EQ(
      to_json_text(request),
      R"({"service":{"tenant_id":"acme","subscriber_id":"","service":""},"caller":null,"families":["ipv4"],)"
      R"("username":"","nas_ip":"","send_coa":null,"commit":null})");
  request.set_send_coa(false);
  EXPECT_TRUE(to_json_text(request).ends_with(R"("send_coa":false,"commit":null})"));
}

TEST(Json, IntegersAreNumbersAndMapsAreObjects) {
  BindingView view;
  view.set_generation(9007199254740993);
  (*view.mutable_metadata())["pool_id"] = "p";
  (*view.mutable_metadata())["allocation_method"] = "auto";
  const std::string text = to_json_text(view);
  EXPECT_NE(text.find(R"("generation":9007199254740993)"), std::string::npos);
  EXPECT_NE(text.find(R"("metadata":{"allocation_method":"auto","pool_id":"p"})"),
            std::string::npos);
}

TEST(Json, TextThatIsNotUtf8IsReplacedNotRefused) {
  EffectReply reply;
  reply.set_detail("\xff");
  EXPECT_NE(to_json_text(reply).find("\xEF\xBF\xBD"), std::string::npos);
}

TEST(Json, NullIsNotGiven) {
  ProvisionRequest request;
  ASSERT_TRUE(from_json_text(R"({"tenant_id":"acme","enable_ipv6":null,"plan":null})", request));
  EXPECT_FALSE(request.has_enable_ipv6());
  EXPECT_EQ(request.plan(), "");
  ASSERT_TRUE(from_json_text("null", request));
  EXPECT_EQ(request.tenant_id(), "");
}

struct Refusal {
  const char* text;
  const char* path;
};

class Refused : public testing::TestWithParam<Refusal> {};

TEST_P(Refused, NamesTheField) {
  ProvisionContext unused;
  CompositionResult message;
  const auto read = from_json_text(GetParam().text, message);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().path, GetParam().path);
  EXPECT_TRUE(read.error().message.starts_with(GetParam().path)) << read.error().message;
}

INSTANTIATE_TEST_SUITE_P(
    Json, Refused,
    testing::Values(Refusal{R"({"succes":true})", "succes"},
                    Refusal{R"({"success":"yes"})", "success"}, Refusal{R"({"code":7})", "code"},
                    Refusal{R"({"context":[]})", "context"},
                    Refusal{R"({"context":{"ipv4Address":"x"}})", "context.ipv4Address"},
                    Refusal{R"({"steps":{}})", "steps"},
                    Refusal{R"({"steps":[{"name":1}]})", "steps[0].name"},
                    Refusal{R"({"result":{"coa_result":{"error_cause":4294967296}}})",
                            "result.coa_result.error_cause"},
                    Refusal{R"({"result":{"netbox_ip_id":1.5}})", "result.netbox_ip_id"},
                    Refusal{R"({"result":{"netbox_ip_id":"1"}})", "result.netbox_ip_id"},
                    Refusal{R"({"result":{"metadata":{"a":1}}})", "result.metadata.a"},
                    Refusal{R"([])", ""}, Refusal{R"({"success":)", ""}));

TEST(Wire, ProtobufsOwnJsonIsTakenToo) {
  LifecycleResult result;
  ASSERT_TRUE(from_wire(
      "json/protobuf",
      R"({"netboxIpId":"42","coaResult":{"errorCause":503},"operation":"suspend"})", result));
  EXPECT_EQ(result.netbox_ip_id(), 42);
  EXPECT_EQ(result.coa_result().error_cause(), 503);
  EXPECT_EQ(result.operation(), "suspend");
}

TEST(Wire, BinaryAndNothingAreTakenToo) {
  ProvisionRequest request;
  request.set_tenant_id("acme");
  ProvisionRequest back;
  ASSERT_TRUE(from_wire("binary/protobuf", request.SerializeAsString(), back));
  EXPECT_EQ(back.tenant_id(), "acme");
  ASSERT_TRUE(from_wire("binary/null", "", back));
  EXPECT_EQ(back.tenant_id(), "");
}

TEST(Wire, AnotherEncodingIsRefused) {
  ProvisionRequest request;
  const auto read = from_wire("binary/encrypted", "x", request);
  ASSERT_FALSE(read);
  EXPECT_NE(read.error().message.find("binary/encrypted"), std::string::npos);
  EXPECT_FALSE(from_wire("binary/protobuf", "\xff\xff", request));
}

}  // namespace
}  // namespace addrflow::v1
