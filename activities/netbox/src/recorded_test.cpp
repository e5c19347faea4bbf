// The client on the recorded exchanges of NetBox 4.6 and 4.4: what it asks has the shape of what
// was asked then, and it reads what was answered then.
#include <gtest/gtest.h>

#include <cstdlib>
#include <deque>
#include <fstream>
#include <optional>
#include <sstream>

#include "addrflow/netbox/client.hpp"

namespace addrflow::netbox {
namespace {

using nlohmann::json;

Clock::time_point soon() { return Clock::now() + std::chrono::seconds{20}; }

// Answers with recordings, in the order of their names.
class Recorded : public Http {
 public:
  explicit Recorded(const std::string& names) {
    std::istringstream words{names};
    for (std::string name; words >> name;) {
      std::ifstream file{ADDRFLOW_NETBOX_CONTRACT "/" + name + ".json"};
      exchanges_.push_back(json::parse(file));
    }
  }
  std::expected<HttpResponse, HttpFailure> send(const HttpRequest& request,
                                                Clock::time_point) override {
    const json exchange = exchanges_.front();
    exchanges_.pop_front();
    const json& asked = exchange.at("request");
    const std::string path = asked.at("path");
    EXPECT_EQ(request.method, asked.at("method").get<std::string>());
    EXPECT_TRUE(request.url.starts_with("http://n" + path.substr(0, path.find('?'))))
        << request.url << " for " << path;
    sent.push_back(request);
    const json& answered = exchange.at("response");
    HttpResponse response{.status = answered.at("status"), .headers = {}, .body = ""};
    for (const auto& [name, value] : answered.at("headers").items()) response.headers[name] = value;
    const bool html = answered.at("headers").value("content-type", "").starts_with("text/html");
    response.body = html ? "<html></html>" : answered.at("body").dump();
    return response;
  }
  json body(std::size_t request) const { return json::parse(sent.at(request).body); }

  std::vector<HttpRequest> sent;

 private:
  std::deque<json> exchanges_;
};

struct Rig {
  explicit Rig(const std::string& names, const char* token = "nbt_k.s")
      : http(std::make_shared<Recorded>(names)) {
    setenv("ADDRFLOW_TEST_NETBOX_TOKEN", token, 1);
    client.emplace(ClientOptions{.url = "http://n", .token = "env:ADDRFLOW_TEST_NETBOX_TOKEN"},
                   http);
  }
  std::shared_ptr<Recorded> http;
  std::optional<Client> client;
};

const Wish kWish{.status = "reserved", .key = "wf-1001-1", .lifecycle_state = "allocated"};

TEST(NetboxRecorded, BothVersionsTellTheirVersion) {
  EXPECT_EQ(Rig{"status"}.client->version(soon()).value(), "4.6.8");
  Rig old{"v44-status", "0123456789abcdef0123456789abcdef01234567"};
  EXPECT_EQ(old.client->version(soon()).value(), "4.4.10");
  EXPECT_TRUE(old.http->sent[0].headers.at("Authorization").starts_with("Token "));
}

TEST(NetboxRecorded, BothVersionsPickAnAddress) {
  for (const char* name : {"available-ips-post", "v44-available-ips-post"}) {
    Rig rig{name};
    const auto taken = rig.client->take(1, kWish, soon());
    ASSERT_TRUE(taken) << name << ": " << taken.error().message;
    EXPECT_EQ(taken->address, "198.51.100.0");
    EXPECT_EQ(taken->status, "reserved");
    EXPECT_TRUE(taken->key.starts_with("wf-1"));
    EXPECT_EQ(taken->etag, "") << "available-ips gives none";
    EXPECT_EQ(rig.http->body(0)["custom_fields"]["idempotency_key"], "wf-1001-1");
    EXPECT_EQ(rig.http->body(0)["status"], "reserved");
  }
}

TEST(NetboxRecorded, BothVersionsPickAPrefix) {
  Wish wish = kWish;
  wish.kind = Kind::kPrefix;
  wish.prefix_length = 56;
  for (const auto& [name, pool] :
       {std::pair{"available-prefixes-post", 9}, {"v44-available-prefixes-post", 2}}) {
    Rig rig{name};
    const auto taken = rig.client->take(pool, wish, soon());
    ASSERT_TRUE(taken) << name << ": " << taken.error().message;
    EXPECT_EQ(taken->address, "2001:db8::");
    EXPECT_EQ(taken->prefix_length, 56);
    EXPECT_EQ(rig.http->body(0)["prefix_length"], 56);
  }
}

TEST(NetboxRecorded, BothVersionsRefuseAsWeUnderstandIt) {
  using enum ErrorKind;
  const std::pair<const char*, ErrorKind> cases[] = {
      {"available-ips-post-duplicate-key", kKeyTaken},
      {"v44-available-ips-post-duplicate-key", kKeyTaken},
      {"v44-exhausted", kExhausted},
      {"db-readonly-reserve", kServer},
      {"redis-down-reserve", kServer},
  };
  for (const auto& [name, kind] : cases) {
    const auto refused = Rig{name}.client->take(1, kWish, soon());
    ASSERT_FALSE(refused) << name;
    EXPECT_EQ(refused.error().kind, kind) << name;
    EXPECT_EQ(refused.error().in_doubt, kind == kServer) << name;
  }
  Wish prefix = kWish;
  prefix.kind = Kind::kPrefix;
  prefix.address = "198.51.100.0";
  prefix.prefix_length = 29;
  const auto twice = Rig{"v44-prefix-duplicate"}.client->create(prefix, soon());
  ASSERT_FALSE(twice);
  EXPECT_EQ(twice.error().kind, kAddressTaken);
}

TEST(NetboxRecorded, OnlyWhatCarriesTheKeyIsFoundByIt) {
  // A short form of the object, without its custom fields: it may be anybody's.
  const auto address = Rig{"lookup-by-cf"}.client->find_by_key(Kind::kAddress, "wf-1001-1", soon());
  ASSERT_TRUE(address) << address.error().message;
  EXPECT_TRUE(address->empty());
  const auto prefix =
      Rig{"lookup-prefix-by-cf"}.client->find_by_key(Kind::kPrefix, "wf-1001-pd", soon());
  ASSERT_TRUE(prefix) << prefix.error().message;
  ASSERT_EQ(prefix->size(), 1U);
  EXPECT_EQ(prefix->at(0).id, 10);
}

// A NetBox whose pages are shorter than what was asked for, and whose `next` points elsewhere.
class Pages : public Http {
 public:
  std::expected<HttpResponse, HttpFailure> send(const HttpRequest& request,
                                                Clock::time_point) override {
    const auto offset = request.url.find("&offset=");
    const bool addresses = request.url.find("ip-addresses") != std::string::npos;
    const int from = addresses ? std::stoi(request.url.substr(offset + 8)) : 5;
    json results = json::array();
    for (int i = from; i < std::min(from + 2, 5); ++i) {
      results.push_back({{"id", i + 1},
                         {"address", "192.0.2." + std::to_string(i) + "/24"},
                         {"status", {{"value", "active"}}},
                         {"vrf", nullptr}});
    }
    const json next = from + 2 < 5 ? json("http://inside.example/?offset=99") : json{};
    const json body{{"count", 5}, {"next", next}, {"previous", nullptr}, {"results", results}};
    return HttpResponse{
        .status = 200, .headers = {{"content-type", "application/json"}}, .body = body.dump()};
  }
};

TEST(NetboxPages, AreFollowedToTheEndHoweverShortTheyAre) {
  setenv("ADDRFLOW_TEST_NETBOX_TOKEN", "nbt_k.s", 1);
  Client client{{.url = "http://n", .token = "env:ADDRFLOW_TEST_NETBOX_TOKEN"},
                std::make_shared<Pages>()};
  const auto found = client.occupied("192.0.2.0/24", std::nullopt, soon());
  ASSERT_TRUE(found) << found.error().message;
  ASSERT_EQ(found->size(), 5U);
  EXPECT_EQ(found->back().first, "192.0.2.4");
}

TEST(NetboxRecorded, AnEtagGuardsAChangeWhereThereIsOne) {
  Rig rig{"ip-get-etag ip-patch-ifmatch-ok"};
  const auto known = rig.client->get(Kind::kAddress, 24, soon());
  ASSERT_TRUE(known) << known.error().message;
  ASSERT_TRUE(rig.client->change(*known, kWish, soon()));
  EXPECT_EQ(rig.http->sent[1].headers.at("If-Match"), known->etag);

  Rig stale{"ip-get-etag ip-patch-ifmatch-stale"};
  const auto seen = stale.client->get(Kind::kAddress, 24, soon());
  const auto refused = stale.client->change(*seen, kWish, soon());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kChanged);
}

}  // namespace
}  // namespace addrflow::netbox
