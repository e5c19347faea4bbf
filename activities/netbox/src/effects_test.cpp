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

// What the platform before us made carries no key; its id came along with the line.
class NetboxTakenOver : public NetboxEffectsTest {
 protected:
  NetboxTakenOver() {
    netbox_.create({{"address", "192.0.2.9/24"}, {"status", "active"}, {"description", "line 1"}});
    journal_.leave.wish["netbox_id"] = netbox_.addresses().at(0)["id"];
    journal_.leave.wish["taken_over"] = true;
  }
  nlohmann::json key() { return netbox_.addresses().at(0)["custom_fields"]["idempotency_key"]; }
};

TEST_F(NetboxTakenOver, ItsObjectIsStampedAtTheFirstChangeAndGoesWithTheLine) {
  ASSERT_EQ(apply("suspend", "suspended").status(), "confirmed");
  const auto object = netbox_.addresses().at(0);
  EXPECT_EQ(key(), "t/1/internet/v4/1");
  EXPECT_EQ(object["custom_fields"]["lifecycle_state"], "suspended");
  EXPECT_EQ(object["custom_fields"]["subscriber_id"], "1");
  EXPECT_EQ(apply("deprecate", "revoking").status(), "confirmed");
  EXPECT_EQ(netbox_.addresses().at(0)["status"]["value"], "deprecated");
  EXPECT_EQ(apply("release").status(), "confirmed");
  EXPECT_TRUE(netbox_.addresses().empty());
}

TEST_F(NetboxTakenOver, EachActionFindsIt) {
  for (const char* action : {"reserve", "set_reserved", "set_active", "deprecate"}) {
    const auto reply = apply(action);
    EXPECT_EQ(reply.status(), "confirmed") << action << ": " << reply.detail();
    EXPECT_EQ(reply.netbox_id(), journal_.leave.wish["netbox_id"]) << action;
  }
  EXPECT_EQ(netbox_.addresses().size(), 1U);
}

TEST_F(NetboxTakenOver, TheCatchUpStampsItToo) {
  ports::ClaimedEffect due{.request = {}, .leave = journal_.leave};
  due.leave.action = "deprecate";
  ledger_.due = {due};
  NetboxEffects{client_, journal_, ledger_, waker_}.catch_up({});
  EXPECT_EQ(key(), "t/1/internet/v4/1");
  EXPECT_EQ(netbox_.addresses().at(0)["status"]["value"], "deprecated");
}

TEST_F(NetboxTakenOver, AnObjectElsewhereOrAnothersOrOfALineOfOursIsNotTaken) {
  const auto wish = journal_.leave.wish;
  journal_.leave.wish["address"] = "192.0.2.10";  // the id was given to other space meanwhile
  EXPECT_EQ(apply("deprecate").status(), "confirmed");
  EXPECT_TRUE(key().is_null());
  journal_.leave.wish = wish;
  journal_.leave.wish.erase("taken_over");
  EXPECT_EQ(apply("set_active").code(), "netbox-address-taken");
  EXPECT_TRUE(key().is_null());
  journal_.leave.wish = wish;
  journal_.leave.wish["key"] = "t/2/internet/v4/1";
  EXPECT_EQ(apply("set_active").status(), "confirmed");
  journal_.leave.wish = wish;
  EXPECT_EQ(apply("set_active").code(), "netbox-not-yet-free") << "it has another line's key";
}

class NetboxTake : public NetboxEffectsTest {
 protected:
  explicit NetboxTake(const char* version = "4.6") : NetboxEffectsTest(version) {
    from_addresses();
  }
  void from_addresses() {
    journal_.leave.wish = {{"key", "t/1/internet/ipv4/take-1"},
                           {"family", "ipv4"},
                           {"prefix_length", 29},
                           {"pool_id", "p"},
                           {"pool_netbox_id", netbox_.create_prefix({{"prefix", "192.0.2.8/29"}})},
                           {"subscriber", "1"}};
  }
  void from_prefixes() {
    journal_.leave.wish.erase("address");
    journal_.leave.wish["key"] = "t/1/internet/ipv6_pd/take-1";
    journal_.leave.wish["family"] = "ipv6_pd";
    journal_.leave.wish["prefix_length"] = 56;
    journal_.leave.wish["pool_netbox_id"] = netbox_.create_prefix({{"prefix", "2001:db8::/40"}});
  }
  // A whole life, each write answered the second time only.
  void live(const char* picks, const char* writes) {
    netbox_.fault({{"kind", "drop"}, {"method", "POST"}, {"path", picks}});
    const auto taken = apply("take");
    ASSERT_EQ(taken.status(), "confirmed") << taken.detail();
    const bool prefix = journal_.leave.wish["family"] == "ipv6_pd";
    journal_.leave.wish[prefix ? "prefix" : "address"] = taken.space();
    for (const char* action : {"set_active", "deprecate", "release"}) {
      const bool release = action == std::string{"release"};
      netbox_.fault({{"kind", "drop"}, {"method", release ? "DELETE" : "PATCH"}, {"path", writes}});
      journal_.leave.earlier_unknown = false;
      EXPECT_EQ(apply(action).status(), "unknown") << action;
      journal_.leave.earlier_unknown = true;
      EXPECT_EQ(apply(action).status(), "confirmed") << action;
    }
    journal_.leave.earlier_unknown = false;
  }
};

class Netbox44 : public NetboxTake {
 protected:
  Netbox44() : NetboxTake("4.4") {}
};

TEST_F(Netbox44, TheWholeLifeOfAnAddressAndOfAPrefix) {
  EXPECT_EQ(client_->version(Clock::now() + std::chrono::seconds{5}).value(), "4.4.10");
  live("available-ips", "ip-addresses");
  EXPECT_TRUE(netbox_.addresses().empty());
  from_prefixes();
  live("available-prefixes", "ipam/prefixes");
}

TEST_F(NetboxTake, TheWholeLifeOfAnAddressAndOfAPrefix) {
  EXPECT_EQ(client_->version(Clock::now() + std::chrono::seconds{5}).value(), "4.6.8");
  live("available-ips", "ip-addresses");
  EXPECT_TRUE(netbox_.addresses().empty());
  from_prefixes();
  live("available-prefixes", "ipam/prefixes");
}

TEST_F(NetboxTake, NetboxPicksAndTheReplySaysWhat) {
  const auto reply = apply("take");
  ASSERT_EQ(reply.status(), "confirmed") << reply.detail();
  EXPECT_EQ(reply.space(), "192.0.2.9");
  const auto object = netbox_.addresses().at(0);
  EXPECT_EQ(object["id"], reply.netbox_id());
  EXPECT_EQ(object["address"], "192.0.2.9/29");
  EXPECT_EQ(object["status"]["value"], "reserved");
  EXPECT_EQ(object["custom_fields"]["subscriber_id"], "1");
}

TEST_F(NetboxTake, AnAnswerThatWasLostLeavesOneObject) {
  netbox_.fault({{"kind", "drop"}, {"method", "POST"}, {"path", "available-ips"}});
  const auto reply = apply("take");
  EXPECT_EQ(reply.status(), "confirmed");
  EXPECT_EQ(reply.space(), "192.0.2.9");
  EXPECT_EQ(netbox_.addresses().size(), 1U);
}

TEST_F(NetboxTake, ARepeatAfterAnUnknownOutcomeFindsWhatWasTaken) {
  netbox_.fault({{"kind", "drop"}, {"method", "POST"}, {"path", "available-ips"}});
  netbox_.fault({{"kind", "503"}, {"method", "GET"}, {"path", "ip-addresses"}});
  const auto lost = apply("take");
  EXPECT_EQ(lost.status(), "unknown");
  EXPECT_TRUE(lost.retry());
  journal_.leave.earlier_unknown = true;
  EXPECT_EQ(apply("take").space(), "192.0.2.9");
  // Also where nobody remembers that an attempt was made: the key is unique in NetBox.
  journal_.leave.earlier_unknown = false;
  EXPECT_EQ(apply("take").space(), "192.0.2.9");
  EXPECT_EQ(netbox_.addresses().size(), 1U);
}

TEST_F(NetboxTake, AnExhaustedPoolIsRefusedForGood) {
  for (int i = 0; i < 6; ++i) {
    journal_.leave.wish["key"] = "k" + std::to_string(i);
    ASSERT_EQ(apply("take").status(), "confirmed");
  }
  journal_.leave.wish["key"] = "one more";
  const auto reply = apply("take");
  EXPECT_EQ(reply.status(), "refused");
  EXPECT_EQ(reply.code(), "netbox-exhausted");
  EXPECT_FALSE(reply.retry());
}

TEST_F(NetboxTake, APrefixIsTakenByTheOnlyWriter) {
  from_prefixes();
  ledger_.writer_free = false;
  EXPECT_EQ(apply("take").code(), "netbox-writer-busy");
  ledger_.writer_free = true;
  const auto reply = apply("take");
  ASSERT_EQ(reply.status(), "confirmed") << reply.detail();
  EXPECT_EQ(reply.space(), "2001:db8::/56");
  netbox_.fault({{"kind", "drop"}, {"method", "POST"}, {"path", "available-prefixes"}});
  journal_.leave.wish["key"] = "another";
  EXPECT_EQ(apply("take").space(), "2001:db8:0:100::/56");
}

TEST_F(NetboxTake, WithoutAPrefixInNetboxItIsRefused) {
  journal_.leave.wish["pool_netbox_id"] = 0;
  EXPECT_EQ(apply("take").code(), "netbox-invalid");
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
