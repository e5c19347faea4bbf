#include "addrflow/netbox/client.hpp"

#include <gtest/gtest.h>

#include <cstdlib>

#include "standin.hpp"

namespace addrflow::netbox {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

Clock::time_point soon() { return Clock::now() + seconds{20}; }

class NetboxClient : public testing::Test {
 protected:
  NetboxClient() {
    setenv("ADDRFLOW_TEST_NETBOX_TOKEN", StandIn::kToken, 1);
    options_.url = netbox_.url() + "/api";
    options_.token = "env:ADDRFLOW_TEST_NETBOX_TOKEN";
  }
  StandIn netbox_;
  ClientOptions options_;
};

TEST(NetboxUrl, MayOrMayNotEndInApi) {
  for (const char* url :
       {"http://n:8000", "http://n:8000/", "http://n:8000/api", "http://n:8000/api/"}) {
    EXPECT_EQ(base_url(url).value(), "http://n:8000");
  }
  EXPECT_EQ(base_url("https://n/netbox/api").value(), "https://n/netbox");
  EXPECT_FALSE(base_url("n:8000"));
  EXPECT_FALSE(base_url("http://user:secret@n"));
}

TEST(NetboxToken, ItsFormTellsTheScheme) {
  EXPECT_EQ(authorization_of("nbt_k.s"), "Bearer nbt_k.s");
  EXPECT_EQ(authorization_of("0123"), "Token 0123");
}

TEST_F(NetboxClient, SetupMayBeRepeated) {
  Client client{options_};
  const auto first = client.setup(soon());
  ASSERT_TRUE(first) << first.error().message;
  EXPECT_EQ(first->at(1), "custom field idempotency_key: made");
  const auto second = client.setup(soon());
  ASSERT_TRUE(second) << second.error().message;
  for (const auto& line : *second) EXPECT_TRUE(line.ends_with("exists")) << line;
}

TEST_F(NetboxClient, AFilterThatNetboxIgnoresFindsNothing) {
  netbox_.create({{"address", "192.0.2.1/32"}});  // no custom field is set up
  Client client{options_};
  const auto found = client.find_by_key(Kind::kAddress, "mine", soon());
  ASSERT_TRUE(found);
  EXPECT_TRUE(found->empty());
}

TEST_F(NetboxClient, ATokenThatIsMissingIsNamedByItsReference) {
  options_.token = "env:ADDRFLOW_TEST_NO_SUCH_TOKEN";
  const auto version = Client{options_}.version(soon());
  ASSERT_FALSE(version);
  EXPECT_EQ(version.error().message, "env:ADDRFLOW_TEST_NO_SUCH_TOKEN holds no NetBox token");
}

TEST_F(NetboxClient, NoErrorHoldsTheToken) {
  setenv("ADDRFLOW_TEST_NETBOX_TOKEN", "very-secret", 1);
  const auto version = Client{options_}.version(soon());
  ASSERT_FALSE(version);
  EXPECT_EQ(version.error().kind, ErrorKind::kDenied);
  EXPECT_EQ(version.error().message.find("very-secret"), std::string::npos);
}

TEST_F(NetboxClient, AnAnswerThatIsLateIsInDoubt) {
  Client setup{options_};
  ASSERT_TRUE(setup.setup(soon()));
  netbox_.fault({{"kind", "late"}, {"method", "POST"}, {"delay_s", 2}});
  options_.timeout = milliseconds{300};
  const auto made =
      Client{options_}.create({.address = "192.0.2.1", .status = "reserved", .key = "k"}, soon());
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().kind, ErrorKind::kNoAnswer);
  EXPECT_TRUE(made.error().in_doubt);
}

TEST(NetboxReal, AnswersItsVersion) {
  const char* url = std::getenv("NETBOX_API_URL");
  if (url == nullptr) GTEST_SKIP() << "NETBOX_API_URL names no NetBox";
  const auto version = Client{{.url = url}}.version(soon());
  ASSERT_TRUE(version) << version.error().message;
}

}  // namespace
}  // namespace addrflow::netbox
