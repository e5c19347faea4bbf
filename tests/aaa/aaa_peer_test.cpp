// AAA rows and accounting with a real PostgreSQL and a real FreeRADIUS: what counts is what the
// next login gets.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <addrflow/aaa/effects.hpp>
#include <addrflow/aaa/listing.hpp>
#include <addrflow/aaa/look.hpp>
#include <addrflow/aaa/sessions.hpp>
#include <addrflow/aaa/setup.hpp>
#include <addrflow/radius/packet.hpp>
#include <atomic>
#include <future>
#include <random>
#include <thread>
#include <utility>

#include "cutting_proxy.hpp"
#include "peers.hpp"

namespace addrflow::aaa {
namespace {

using radius::Attribute;
using radius::Code;

// A journal that always gives leave to what the test wants.
class Journal : public ports::EffectJournal {
 public:
  ports::Leave begin(const v1::EffectRequest& request, std::chrono::milliseconds) override {
    ports::Leave leave;
    leave.kind = ports::Leave::Kind::kSend;
    leave.effect_id = request.effect().effect_id();
    leave.number = request.number();
    leave.attempt = 1;
    leave.system = "aaa";
    leave.action = "apply";
    leave.wish = wish;
    return leave;
  }
  bool still_current(const v1::EffectRequest&) override { return true; }
  bool finish(const v1::EffectRequest&, int, const v1::EffectReply&) override { return current; }

  nlohmann::json wish;
  bool current = true;
};

class Waker : public ports::ServiceWaker {
 public:
  bool wake(const v1::ServiceRef&) noexcept override {
    ++woken;
    return true;
  }
  std::atomic<int> woken = 0;
};

// One exchange with the AAA server; the NAS's side of a login and of accounting.
std::optional<radius::Packet> ask(std::uint16_t port, Code code,
                                  std::vector<Attribute> attributes) {
  const std::string secret = testing::peer_file("RADIUS_NAS_SECRET_FILE");
  const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address);
  radius::Signer signer;
  auto request = *signer.encode_request(code, 1, attributes, secret, false);
  if (code == Code::kAccessRequest) {
    // RFC 2865 5.2, for a password of at most 16 octets.
    std::string block = secret + std::string(request.begin() + 4, request.begin() + 20);
    unsigned char pad[16];
    EVP_Digest(block.data(), block.size(), pad, nullptr, EVP_md5(), nullptr);
    std::string hidden = "pw";
    hidden.resize(16);
    for (std::size_t i = 0; i < 16; ++i) hidden[i] = static_cast<char>(hidden[i] ^ pad[i]);
    request.push_back(2);
    request.push_back(18);
    request.insert(request.end(), hidden.begin(), hidden.end());
    request[3] = static_cast<std::uint8_t>(request.size());
  }
  std::optional<radius::Packet> answer;
  std::vector<std::uint8_t> octets(4096);
  pollfd ready{fd, POLLIN, 0};
  for (int i = 0; i < 3 && !answer; ++i) {
    ::send(fd, request.data(), request.size(), 0);
    if (::poll(&ready, 1, 2'000) != 1) continue;
    const ssize_t size = ::recv(fd, octets.data(), octets.size(), 0);
    if (size > 0) {
      const std::span got{octets.data(), static_cast<std::size_t>(size)};
      if (auto packet = radius::decode(got)) answer = *packet;
    }
  }
  ::close(fd);
  return answer;
}

std::uint16_t port_of(const char* name) {
  return static_cast<std::uint16_t>(std::stoi(testing::need_peer(name)));
}

std::string ip_octets(const std::string& text) {
  in_addr address{};
  inet_pton(AF_INET, text.c_str(), &address);
  return {reinterpret_cast<const char*>(&address), 4};
}

class AaaPeerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ADDRFLOW_NEEDS_PEER("AAA_URL");
    settings.url = testing::need_peer("AAA_URL");
    database = std::make_unique<Database>(settings);
    set_up(*database);
    effects = std::make_unique<AaaEffects>(*database, journal, waker);
    sessions = std::make_unique<AccountingSessions>(*database);
    std::random_device random;
    unique = std::to_string(random()) + std::to_string(random());
    user = "aaa-" + unique;
    address = "100.64." + std::to_string(random() % 250) + "." + std::to_string(1 + random() % 250);
    request.mutable_service()->set_tenant_id("t" + unique);
    request.mutable_service()->set_subscriber_id("s");
    request.mutable_service()->set_service("internet");
    sql("insert into radcheck (username, attribute, op, value) values ('" + user +
        "', 'Cleartext-Password', ':=', 'pw')");
  }

  pqxx::result sql(const std::string& statement) {
    return database->with([&](pqxx::connection& connection) {
      pqxx::nontransaction work{connection};
      return work.exec(statement);
    });
  }
  int count(const std::string& from) { return sql("select count(*) from " + from)[0][0].as<int>(); }

  v1::EffectReply apply(const std::string& condition, const std::string& name, int number,
                        int effect = 1, const std::string& plan = "gold") {
    journal.wish = {{"username", name},           {"former_usernames", nlohmann::json::array()},
                    {"condition", condition},     {"framed_ip", address},
                    {"delegated_prefix", prefix}, {"plan", plan}};
    request.set_number(number);
    request.mutable_effect()->set_effect_id(effect);
    return effects->apply(request);
  }

  std::optional<radius::Packet> login(const std::string& name) {
    return ask(port_of("RADIUS_AUTH_PORT"), Code::kAccessRequest, {{0, 1, name}});
  }
  void accounting(std::uint32_t kind, const std::string& session, const std::string& nas) {
    const auto answer = ask(port_of("RADIUS_ACCT_PORT"), Code::kAccountingRequest,
                            {{0, 1, user},
                             {0, 40, radius::integer_value(kind)},
                             {0, 44, session},
                             {0, 4, ip_octets(nas)},
                             {0, 8, ip_octets(address)}});
    ASSERT_TRUE(answer) << "no answer from the accounting server";
  }

  static int addresses_in(const radius::Packet& packet) {
    return static_cast<int>(std::ranges::count_if(
        packet.attributes, [](const Attribute& a) { return a.vendor == 0 && a.type == 8; }));
  }

  Settings settings;
  std::unique_ptr<Database> database;
  Journal journal;
  Waker waker;
  std::unique_ptr<AaaEffects> effects;
  std::unique_ptr<AccountingSessions> sessions;
  std::string unique, user, address;
  std::string prefix;  // delegated; empty: none
  v1::EffectRequest request;
};

TEST_F(AaaPeerTest, EachConditionIsWhatTheNextLoginGets) {
  EXPECT_EQ(apply("full", user, 1).status(), "confirmed");
  auto answer = login(user);
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->code, Code::kAccessAccept);
  ASSERT_NE(answer->find(8), nullptr);
  EXPECT_EQ(answer->find(8)->value, ip_octets(address));
  EXPECT_EQ(answer->find(11), nullptr) << "not suspended";

  EXPECT_EQ(apply("restricted", user, 2).status(), "confirmed");
  answer = login(user);
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->code, Code::kAccessAccept);
  EXPECT_EQ(answer->find(8)->value, ip_octets(address));
  ASSERT_NE(answer->find(11), nullptr);
  EXPECT_EQ(answer->find(11)->value, "suspended");

  EXPECT_EQ(apply("full", user, 3).status(), "confirmed");
  answer = login(user);
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->find(11), nullptr) << "reactivated";
  EXPECT_EQ(addresses_in(*answer), 1);

  EXPECT_EQ(apply("refused", user, 4).status(), "confirmed");
  answer = login(user);
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->code, Code::kAccessReject);
  EXPECT_EQ(answer->find(8), nullptr);

  EXPECT_EQ(apply("full", user, 5).status(), "confirmed");
  answer = login(user);
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->code, Code::kAccessAccept) << "the next generation";
}

// RFC 3162: a reserved octet, the length, and as much of the prefix as it has.
std::string prefix_octets(const std::string& network, int length) {
  in6_addr address{};
  inet_pton(AF_INET6, network.c_str(), &address);
  std::string octets{'\0', static_cast<char>(length)};
  return octets.append(reinterpret_cast<const char*>(&address), (length + 7) / 8);
}

TEST_F(AaaPeerTest, ADualStackLineGetsItsAddressAndItsPrefixInOneLogin) {
  constexpr int kFramedIp = 8;
  constexpr int kDelegatedPrefix = 123;
  prefix = "2001:db8:1200::/56";
  EXPECT_EQ(apply("full", user, 1).detail(),
            "Framed-IP-Address " + address + ", Delegated-IPv6-Prefix " + prefix);
  const auto answer = login(user);
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->code, Code::kAccessAccept);
  ASSERT_NE(answer->find(kFramedIp), nullptr);
  EXPECT_EQ(answer->find(kFramedIp)->value, ip_octets(address));
  ASSERT_NE(answer->find(kDelegatedPrefix), nullptr);
  EXPECT_EQ(answer->find(kDelegatedPrefix)->value.substr(0, 9),
            prefix_octets("2001:db8:1200::", 56));

  // One family goes; the other one stays as it was.
  const std::string held = std::exchange(address, "");
  EXPECT_EQ(apply("full", user, 2).status(), "confirmed");
  const auto ipv6_alone = login(user);
  ASSERT_TRUE(ipv6_alone);
  EXPECT_EQ(ipv6_alone->code, Code::kAccessAccept);
  EXPECT_EQ(ipv6_alone->find(kFramedIp), nullptr);
  EXPECT_NE(ipv6_alone->find(kDelegatedPrefix), nullptr);
  address = held;

  EXPECT_EQ(apply("refused", user, 3).status(), "confirmed");
  EXPECT_EQ(login(user)->code, Code::kAccessReject);
  EXPECT_EQ(count("radreply where username = '" + user + "'"), 0);
  prefix = "2001:db8:1200::/129";
  EXPECT_EQ(apply("full", user, 4).status(), "refused") << "one bad value refuses every login";
}

TEST_F(AaaPeerTest, AccountingShowsWhichSessionHasThePrefix) {
  prefix = "2001:db8:3400::/56";
  sql("insert into radacct (acctsessionid, acctuniqueid, username, nasipaddress, acctstarttime,"
      " acctupdatetime, framedipaddress, delegatedipv6prefix) values ('p1', 'u" +
      unique + "', '" + user + "', '192.0.2.1', clock_timestamp(), clock_timestamp(), '" + address +
      "', '" + prefix + "')");
  const auto now = std::chrono::system_clock::now();
  const auto open = sessions->evidence({"somebody-else"}, prefix, "", now).open;
  ASSERT_EQ(open.size(), 1U) << "found by the prefix alone";
  EXPECT_EQ(open.front().delegated_prefix, prefix);
  EXPECT_EQ(open.front().framed_ip, address);
  EXPECT_TRUE(sessions->evidence({"somebody-else"}, "2001:db8:3500::/56", "", now).open.empty());
  sql("update radacct set acctstoptime = clock_timestamp() where acctuniqueid = 'u" + unique + "'");
  EXPECT_TRUE(sessions->evidence({user}, prefix, "", now).stopped_since);
  EXPECT_FALSE(sessions->evidence({user}, "2001:db8:3500::/56", "", now).stopped_since)
      << "the Stop of a session with another prefix";
}

TEST_F(AaaPeerTest, RepeatsChangeNothing) {
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(apply("restricted", user, 1).status(), "confirmed");
    EXPECT_EQ(count("radreply where username = '" + user + "'"), 1);
    EXPECT_EQ(count("radusergroup where username = '" + user + "'"), 2);
  }
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(apply("refused", user, 2).status(), "confirmed");
    EXPECT_EQ(count("radcheck where username = '" + user + "' and attribute = 'Auth-Type'"), 1);
    EXPECT_EQ(count("radreply where username = '" + user + "'"), 0);
    EXPECT_EQ(count("radusergroup where username = '" + user + "'"), 0);
  }
}

TEST_F(AaaPeerTest, LateAttemptOfOlderTransitionWritesNothing) {
  EXPECT_EQ(apply("full", user, 7, 20).status(), "confirmed");
  EXPECT_EQ(apply("refused", user, 6, 10).status(), "superseded");
  EXPECT_EQ(apply("refused", user, 7, 19).status(), "superseded") << "an earlier step of it";
  EXPECT_EQ(login(user)->code, Code::kAccessAccept);
}

TEST_F(AaaPeerTest, RowsThatAreNotOursAreLeftAlone) {
  sql("insert into radreply (username, attribute, op, value) values ('" + user +
      "', 'Session-Timeout', ':=', '3600')");
  sql("insert into radusergroup (username, groupname, priority) values ('" + user +
      "', 'theirs', 5)");
  for (const auto* condition : {"full", "refused", "full"}) apply(condition, user, 1);
  EXPECT_EQ(count("radcheck where username = '" + user + "' and attribute = 'Cleartext-Password'"),
            1);
  EXPECT_EQ(count("radreply where username = '" + user + "' and attribute = 'Session-Timeout'"), 1);
  EXPECT_EQ(count("radusergroup where username = '" + user + "' and groupname = 'theirs'"), 1);
}

TEST_F(AaaPeerTest, TheSessionTimeoutOfTheConfigurationIsToldAtEachLogin) {
  settings.session_timeout = std::chrono::hours{24 * 7};
  database = std::make_unique<Database>(settings);
  effects = std::make_unique<AaaEffects>(*database, journal, waker);
  sql("insert into radreply (username, attribute, op, value) values ('" + user +
      "', 'Session-Timeout', ':=', '3600')");
  for (int number = 1; number < 3; ++number) {
    ASSERT_EQ(apply("full", user, number).status(), "confirmed");
    const auto answer = login(user);
    ASSERT_TRUE(answer);
    std::vector<std::string> told;
    for (const Attribute& one : answer->attributes)
      if (one.vendor == 0 && one.type == 27) told.push_back(one.value);
    EXPECT_EQ(told, std::vector{radius::integer_value(604'800)});
  }
  apply("refused", user, 3);
  EXPECT_EQ(count("radreply where username = '" + user + "'"), 0);
}

TEST_F(AaaPeerTest, ChangeOfPlanLeavesOneGroup) {
  apply("full", user, 1, 1, "gold");
  apply("full", user, 2, 2, "silver");
  EXPECT_EQ(count("radusergroup where username = '" + user + "'"), 1);
  EXPECT_EQ(count("radusergroup where username = '" + user + "' and groupname = 'silver'"), 1);
}

// What rlm_sql makes of it is what counts: a platform that was taken over has put its lines into
// groups of its own, with the schema's default priority.
class GroupsTest : public AaaPeerTest {
 protected:
  // A group that sets Filter-Id to its own name.
  std::string group(const std::string& kind) {
    const std::string name = kind + "-" + unique;
    reply(name, "Filter-Id", name);
    return name;
  }
  void reply(const std::string& name, const std::string& attribute, const std::string& value) {
    sql("insert into radgroupreply (groupname, attribute, op, value) values ('" + name + "', '" +
        attribute + "', ':=', '" + value + "')");
  }
  void join(const std::string& name, int priority) {
    sql("insert into radusergroup (username, groupname, priority) values ('" + user + "', '" +
        name + "', " + std::to_string(priority) + ")");
  }
  std::string filter_of_login() {
    constexpr int kFilterId = 11;
    const auto answer = login(user);
    if (!answer || answer->code != Code::kAccessAccept) return "no login";
    const auto* filter = answer->find(kFilterId);
    return filter == nullptr ? "none" : filter->value;
  }
  ports::AaaLine line() {
    return Listing{*database}
        .lines_of({ports::ServiceName{request.service().tenant_id(), "s", "internet"}})
        .at(0);
  }
};

TEST_F(GroupsTest, OursComeBeforeTheGroupsOfSomebodyElse) {
  const std::string theirs = group("theirs");
  const std::string silver = group("silver");
  join(theirs, 0);
  ASSERT_EQ(filter_of_login(), theirs);

  const auto suspended = apply("restricted", user, 1, 1, "default");
  EXPECT_EQ(filter_of_login(), "suspended");
  EXPECT_NE(suspended.detail().find(theirs + " priority 0 (after ours)"), std::string::npos)
      << suspended.detail();
  apply("full", user, 2, 2, silver);
  EXPECT_EQ(filter_of_login(), silver) << "another plan";
  apply("restricted", user, 3, 3, silver);
  EXPECT_EQ(filter_of_login(), "suspended");
  apply("refused", user, 4, 4, silver);
  EXPECT_EQ(filter_of_login(), "no login");
  EXPECT_EQ(count("radusergroup where username = '" + user + "'"), 1) << "theirs stays";
}

TEST_F(GroupsTest, ALineThatNobodyHasGivenAPlanKeepsTheGroupThatItHas) {
  const std::string theirs = group("theirs");
  join(theirs, 5);
  const auto full = apply("full", user, 1, 1, "default");
  EXPECT_EQ(filter_of_login(), theirs);
  EXPECT_NE(full.detail().find(theirs + " priority 5 (before ours)"), std::string::npos)
      << full.detail();
  apply("full", user, 2, 2, "unheard-of-" + unique);
  EXPECT_EQ(filter_of_login(), theirs) << "AAA does not know that plan: it says nothing";
}

TEST_F(GroupsTest, AGroupThatFallsThroughIsReadAsBefore) {
  constexpr int kIdleTimeout = 28;
  const std::string base = group("base");
  reply(base, "Fall-Through", "Yes");
  reply(base, "Idle-Timeout", "600");
  join(base, 0);
  const std::string silver = group("silver");
  apply("full", user, 1, 1, silver);
  EXPECT_EQ(filter_of_login(), silver) << "what comes later replaces it";
  const auto answer = login(user);
  ASSERT_TRUE(answer);
  EXPECT_NE(answer->find(kIdleTimeout), nullptr);
  EXPECT_EQ(line().plan, silver);
  apply("restricted", user, 2, 2, silver);
  EXPECT_EQ(filter_of_login(), "suspended");
  EXPECT_TRUE(line().restricted);
}

TEST_F(GroupsTest, TheListingSaysWhatTheNextLoginGets) {
  const std::string theirs = group("theirs");
  const std::string silver = group("silver");
  apply("restricted", user, 1, 1, silver);
  EXPECT_EQ(line().plan, silver);
  EXPECT_TRUE(line().restricted);
  // Written by somebody after us.
  join(theirs, -10);
  EXPECT_EQ(filter_of_login(), theirs);
  EXPECT_EQ(line().plan, theirs);
  EXPECT_FALSE(line().restricted);
  apply("restricted", user, 2, 2, silver);
  EXPECT_EQ(filter_of_login(), "suspended");
  EXPECT_EQ(line().plan, silver);
  EXPECT_TRUE(line().restricted);
  sql("delete from radusergroup where username = '" + user + "'");
  EXPECT_EQ(line().plan, "");
}

TEST_F(GroupsTest, ALookNamesTheGroupsAndTheirPlaces) {
  const std::string theirs = group("theirs");
  const std::string silver = group("silver");
  join(theirs, 0);
  join(silver, 7);  // of the plan's name: it becomes ours
  const nlohmann::json wish{{"username", user},
                            {"former_usernames", nlohmann::json::array()},
                            {"condition", "restricted"},
                            {"framed_ip", address},
                            {"plan", silver}};
  SupposedRows seen;
  const auto rows = look(*database, request.service(), wish, seen);
  const std::string of_user = " radusergroup " + user + " ";
  for (const std::string& row :
       {"-" + of_user + silver + " priority 7", "+" + of_user + silver + " priority -1",
        "+" + of_user + "suspended priority -2",
        "=" + of_user + theirs + " priority 0 (after ours)"})
    EXPECT_NE(std::ranges::find(rows, row), rows.end()) << row;
  apply("restricted", user, 1, 1, silver);
  const std::string places = "radusergroup where username = '" + user + "' and groupname = '";
  EXPECT_EQ(count(places + silver + "' and priority = -1"), 1);
  EXPECT_EQ(count(places + silver + "'"), 1);
  EXPECT_EQ(count(places + "suspended' and priority = -2"), 1);
}

TEST_F(AaaPeerTest, FormerUsernameIsRefused) {
  apply("full", user, 1);
  const std::string renamed = user + "-new";
  journal.wish = {{"username", renamed},
                  {"former_usernames", {user}},
                  {"condition", "full"},
                  {"framed_ip", address},
                  {"plan", "gold"}};
  request.set_number(2);
  EXPECT_EQ(effects->apply(request).status(), "confirmed");
  EXPECT_EQ(login(user)->code, Code::kAccessReject);
  EXPECT_EQ(count("radreply where username = '" + renamed + "'"), 1);
}

// It was never written, and must not keep the line from ever being taken back.
TEST_F(AaaPeerTest, FormerUsernameThatIsNoneIsPassedOver) {
  apply("full", user, 1);
  journal.wish["former_usernames"] = {"x\x7f", "", std::string(300, 'x')};
  journal.wish["condition"] = "refused";
  request.set_number(2);
  EXPECT_EQ(effects->apply(request).status(), "confirmed");
  EXPECT_EQ(login(user)->code, Code::kAccessReject);
}

TEST_F(AaaPeerTest, UsernameInUseIsNotTakenButFreedOneIs) {
  apply("full", user, 1);
  const v1::EffectRequest first = request;
  request.mutable_service()->set_subscriber_id("other");
  EXPECT_EQ(apply("full", user, 1).code(), "username_taken");
  request = first;
  apply("refused", user, 2);
  request.mutable_service()->set_subscriber_id("other");
  EXPECT_EQ(apply("full", user, 1).status(), "confirmed");
  request = first;
  EXPECT_EQ(apply("refused", user, 3).status(), "confirmed") << "of its old owner";
  EXPECT_EQ(login(user)->code, Code::kAccessAccept) << "the new owner's login stays";
}

TEST_F(AaaPeerTest, ValueThatWouldRejectEveryLoginIsRefused) {
  address = "100.64.0.999";
  const auto reply = apply("full", user, 1);
  EXPECT_EQ(reply.status(), "refused");
  EXPECT_NE(reply.detail().find("framed_ip"), std::string::npos);
  EXPECT_EQ(count("radreply where username = '" + user + "'"), 0);
  address = "100.64.0.1";
  EXPECT_EQ(apply("full", "", 1).code(), "invalid_argument");
  EXPECT_EQ(apply("nonsense", user, 1).code(), "invalid_argument");
}

TEST_F(AaaPeerTest, StaleOutcomeWakesTheService) {
  journal.current = false;
  apply("full", user, 1);
  EXPECT_EQ(waker.woken, 1);
}

TEST_F(AaaPeerTest, ConcurrentWritersLeaveOneSetOfRows) {
  std::vector<std::thread> threads;
  std::atomic<int> confirmed = 0;
  journal.wish = {{"username", user},
                  {"former_usernames", nlohmann::json::array()},
                  {"condition", "full"},
                  {"framed_ip", address},
                  {"plan", "gold"}};
  request.set_number(1);
  for (int i = 0; i < 16; ++i) {
    threads.emplace_back([&] { confirmed += effects->apply(request).status() == "confirmed"; });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(confirmed, 16);
  EXPECT_EQ(count("radreply where username = '" + user + "'"), 1);
  EXPECT_EQ(count("radusergroup where username = '" + user + "'"), 1);
}

TEST_F(AaaPeerTest, WriterFrozenInATransactionLosesItsLocks) {
  testing::CuttingProxy proxy{testing::port_of(settings.url)};
  Settings through = settings;
  through.url = testing::with_port(settings.url, proxy.port);
  through.statement_timeout = std::chrono::seconds{2};
  Database slow{through};
  AaaEffects frozen{slow, journal, waker};
  EXPECT_EQ(apply("full", user, 1).status(), "confirmed");
  journal.wish["plan"] = "silver";
  proxy.freezing = true;
  auto lost = std::async(std::launch::async, [&] { return frozen.apply(request); });
  while (proxy.frozen == 0) {
    ASSERT_NE(lost.wait_for(std::chrono::milliseconds{1}), std::future_status::ready);
  }
  EXPECT_EQ(effects->apply(request).status(), "confirmed");
  EXPECT_NE(lost.get().status(), "confirmed");
  EXPECT_EQ(count("radusergroup where username = '" + user + "'"), 1);
}

TEST_F(AaaPeerTest, AccountingSaysWhereTheLineIsAndWhenItLeft) {
  const auto before = std::chrono::system_clock::now() - std::chrono::seconds{5};
  EXPECT_TRUE(sessions->open_sessions({user}).empty());
  accounting(1, "s-" + unique, "127.0.0.1");
  const auto open = sessions->open_sessions({"nobody", user});
  ASSERT_EQ(open.size(), 1U);
  EXPECT_EQ(open[0].acct_session_id, "s-" + unique);
  EXPECT_EQ(open[0].nas_ip, "127.0.0.1");
  EXPECT_EQ(open[0].framed_ip, address);
  EXPECT_GT(open[0].started, before - std::chrono::minutes{1});

  auto evidence = sessions->evidence({user}, address, "127.0.0.1", before);
  EXPECT_EQ(evidence.open.size(), 1U);
  EXPECT_FALSE(evidence.stopped_since);
  ASSERT_TRUE(evidence.nas_last_heard);
  EXPECT_GT(*evidence.nas_last_heard, before - std::chrono::minutes{1});
  EXPECT_EQ(sessions->evidence({"nobody"}, address, "", before).open.size(), 1U) << "by address";

  accounting(2, "s-" + unique, "127.0.0.1");
  EXPECT_TRUE(sessions->open_sessions({user}).empty());
  evidence = sessions->evidence({user}, address, "", before);
  EXPECT_TRUE(evidence.open.empty());
  EXPECT_TRUE(evidence.stopped_since);
  EXPECT_FALSE(sessions->evidence({user}, "100.127.1.1", "", before).stopped_since)
      << "a session with another address proves nothing";
  EXPECT_FALSE(sessions
                   ->evidence({user}, address, "",
                              std::chrono::system_clock::now() + std::chrono::minutes{1})
                   .stopped_since);
}

TEST_F(AaaPeerTest, ManyAskAtOnceWhoseSessionHasEnded) {
  const auto now = std::chrono::system_clock::now();
  const std::vector<ports::Waiting> waiting{
      {.username = "nobody", .since = now - std::chrono::minutes{1}},
      {.username = user, .since = now + std::chrono::minutes{1}},
      {.username = user, .since = now - std::chrono::minutes{1}}};
  accounting(1, "s-" + unique, "127.0.0.1");
  EXPECT_TRUE(sessions->ended(waiting).empty());
  accounting(2, "s-" + unique, "127.0.0.1");
  EXPECT_EQ(sessions->ended(waiting), std::vector<std::size_t>{2});
  sql("update radacct set acctterminatecause = 'NAS-Reboot' where username = '" + user + "'");
  EXPECT_TRUE(sessions->ended(waiting).empty())
      << "a NAS that restarts says nothing of the session";
}

TEST_F(AaaPeerTest, StaleRowIsNoPlaceButBlocksTheGate) {
  accounting(1, "s-" + unique, "127.0.0.1");
  sql("update radacct set acctstarttime = now() - interval '2 hours', acctupdatetime = now() -"
      " interval '1 hour' where username = '" +
      user + "'");
  EXPECT_TRUE(sessions->open_sessions({user}).empty());
  EXPECT_EQ(sessions->evidence({user}, "", "", {}).open.size(), 1U);
  const auto rows = sessions->open_rows({user});
  ASSERT_EQ(rows.size(), 1U) << "there may be a session: its NAS knows";
  EXPECT_GE(rows[0].silent, std::chrono::minutes{60});
  EXPECT_LT(rows[0].silent, std::chrono::minutes{62});
  EXPECT_EQ(rows[0].interim.count(), 0) << "no Interim-Update has come";
}

TEST_F(AaaPeerTest, ConnectionsThatBrokeWhileIdleAreReplaced) {
  Database other{settings};
  for (int i = 0; i < 2; ++i) {
    const auto pid = sql("select pg_backend_pid()")[0][0].as<int>();
    other.with([&](pqxx::connection& connection) {
      pqxx::nontransaction work{connection};
      return work.exec_params1("select pg_terminate_backend($1, 5000)", pid).size();
    });
    if (i == 0) EXPECT_TRUE(sessions->open_sessions({user}).empty());
    if (i == 1) EXPECT_EQ(apply("full", user, 1).status(), "confirmed");
  }
}

TEST_F(AaaPeerTest, SetUpMayBeRepeatedAndNamesWhatIsMissing) {
  set_up(*database);
  EXPECT_EQ(count("radgroupreply where groupname = 'suspended'"), 1);
  Settings empty = settings;
  empty.url = testing::need_peer("ADDRFLOW_TEST_PG_URL");
  Database other{empty};
  const auto missing = missing_columns(other);
  EXPECT_NE(std::ranges::find(missing, "radacct.acctstoptime"), missing.end());
  EXPECT_THROW(set_up(other), std::runtime_error);
}

TEST_F(AaaPeerTest, DatabaseThatIsAwayIsUnknownAndSaysNoPassword) {
  Settings away = settings;
  away.url = "postgresql://somebody:verysecret@127.0.0.1:1/none";
  Database database_away{away};
  AaaEffects effects_away{database_away, journal, waker};
  journal.wish = {{"username", user}, {"condition", "full"}, {"framed_ip", address}};
  const auto reply = effects_away.apply(request);
  EXPECT_EQ(reply.status(), "unknown");
  EXPECT_TRUE(reply.retry());
  EXPECT_EQ(reply.ShortDebugString().find("verysecret"), std::string::npos);
}

}  // namespace
}  // namespace addrflow::aaa
