#include "effects_fixture.hpp"

namespace addrflow::netbox {
namespace {

TEST_F(NetboxEffectsTest, AnAddressLivesFromReserveToRelease) {
  const auto reserved = apply("reserve");
  ASSERT_EQ(reserved.status(), "confirmed") << reserved.detail();
  auto object = netbox_.addresses().at(0);
  EXPECT_EQ(object["id"], reserved.netbox_id());
  EXPECT_EQ(object["address"], "192.0.2.9/24");
  EXPECT_EQ(object["status"]["value"], "reserved");
  EXPECT_EQ(object["custom_fields"]["lifecycle_state"], "allocated");

  journal_.leave.wish["netbox_id"] = reserved.netbox_id();
  EXPECT_EQ(apply("set_active", "active").status(), "confirmed");
  object = netbox_.addresses().at(0);
  EXPECT_EQ(object["status"]["value"], "active");
  EXPECT_EQ(object["custom_fields"]["subscriber_id"], "1");

  EXPECT_EQ(apply("deprecate", "revoking").status(), "confirmed");
  object = netbox_.addresses().at(0);
  EXPECT_EQ(object["status"]["value"], "deprecated");
  EXPECT_TRUE(object["custom_fields"]["subscriber_id"].is_null());

  EXPECT_EQ(apply("release").status(), "confirmed");
  EXPECT_TRUE(netbox_.addresses().empty());
  EXPECT_EQ(apply("release").status(), "confirmed");
}

TEST_F(NetboxEffectsTest, AForeignAddressIsAConflictAndStaysUntouched) {
  netbox_.create({{"address", "192.0.2.9/32"}, {"description", "theirs"}});
  const auto reply = apply("reserve");
  EXPECT_EQ(reply.status(), "refused");
  EXPECT_TRUE(reply.conflict());
  EXPECT_FALSE(reply.retry());
  EXPECT_EQ(netbox_.addresses().at(0)["description"], "theirs");
}

TEST_F(NetboxEffectsTest, AnAnswerThatWasLostIsFoundByItsKey) {
  netbox_.fault({{"kind", "drop"}, {"method", "POST"}, {"path", "ip-addresses"}});
  EXPECT_EQ(apply("reserve").status(), "confirmed");
  EXPECT_EQ(netbox_.addresses().size(), 1U);
}

TEST_F(NetboxEffectsTest, ARepeatAfterAnUnknownOutcomeMakesNoSecondObject) {
  ASSERT_EQ(apply("reserve").status(), "confirmed");
  journal_.leave.earlier_unknown = true;
  EXPECT_EQ(apply("reserve").status(), "confirmed");
  EXPECT_EQ(netbox_.addresses().size(), 1U);
}

TEST_F(NetboxEffectsTest, AServersErrorLeavesTheOutcomeUnknown) {
  netbox_.fault({{"kind", "503"}, {"method", "POST"}});
  const auto reply = apply("reserve");
  EXPECT_EQ(reply.status(), "unknown");
  EXPECT_TRUE(reply.retry());
}

TEST_F(NetboxEffectsTest, ATokenThatIsRefusedIsTriedAgainLater) {
  netbox_.fault({{"kind", "403"}, {"method", "POST"}});
  const auto reply = apply("reserve");
  EXPECT_EQ(reply.status(), "refused");
  EXPECT_EQ(reply.code(), "netbox-denied");
  EXPECT_TRUE(reply.retry());
}

TEST_F(NetboxEffectsTest, SetActiveMakesWhatAReserveDidNot) {
  EXPECT_EQ(apply("set_active", "active").status(), "confirmed");
  EXPECT_EQ(netbox_.addresses().at(0)["status"]["value"], "active");
}

TEST_F(NetboxEffectsTest, WithoutLeaveNothingIsSent) {
  const int before = netbox_.writes();
  journal_.leave.kind = ports::Leave::Kind::kSuperseded;
  EXPECT_EQ(apply("reserve").status(), "superseded");
  journal_.leave.kind = ports::Leave::Kind::kRecorded;
  journal_.leave.recorded.set_status("confirmed");
  EXPECT_EQ(apply("reserve").status(), "confirmed");
  EXPECT_EQ(netbox_.writes(), before);
  EXPECT_TRUE(journal_.finished.empty());
}

TEST_F(NetboxEffectsTest, ANewerTransitionMeanwhileWakesTheService) {
  journal_.current = false;
  apply("reserve");
  EXPECT_EQ(waker_.woken, 1);
}

TEST_F(NetboxEffectsTest, WithoutNetboxTheEffectDoesNotApply) {
  client_ = nullptr;
  const auto reply = apply("reserve");
  EXPECT_EQ(reply.status(), "not_applicable");
  EXPECT_EQ(reply.code(), "netbox-off");
}

}  // namespace
}  // namespace addrflow::netbox
