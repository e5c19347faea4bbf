// NetBox's REST API as far as addrflow needs it: addresses and prefixes, the custom fields that
// mark ours, and what stands in a pool before it is ours.
#pragma once

#include <addrflow/netbox/breaker.hpp>
#include <addrflow/netbox/error.hpp>
#include <addrflow/netbox/http.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace addrflow::netbox {

struct ClientOptions {
  std::string url;                             // NETBOX_API_URL, with or without /api (R21)
  std::string token = "env:NETBOX_API_TOKEN";  // a reference: env:NAME or file:/path
  std::chrono::milliseconds timeout{30'000};   // of one request, the wait for a slot included
  std::size_t concurrency = 6;                 // at most 8: NetBox serialises writes
  BreakerOptions breaker;
};

// The base without a trailing slash and without /api, or what is wrong with the URL.
std::expected<std::string, std::string> base_url(std::string_view url);

// The Authorization header of a token: v2 tokens (`nbt_…`, NetBox 4.5 on) are bearers.
std::string authorization_of(std::string_view token);

enum class Kind { kAddress, kPrefix };

// Only what a caller decides by; the rest of the object stays where it is.
struct Object {
  Kind kind = Kind::kAddress;
  std::int64_t id = 0;
  std::string address;  // without mask
  int prefix_length = 0;
  std::string status;
  std::optional<std::int64_t> vrf_id;
  std::string key;              // custom field idempotency_key; empty: not ours
  std::string lifecycle_state;  // custom field
  std::string subscriber;       // custom field
  std::string description;
  std::string etag;  // empty where NetBox gave none: If-Match is then not understood
};

// What an object is to be. Empty strings are left out of a change, except the subscriber.
struct Wish {
  Kind kind = Kind::kAddress;
  std::string address;
  int prefix_length = 0;  // 0: a host
  std::optional<std::int64_t> vrf_id;
  std::string status;  // always sent: NetBox's default is `active`
  std::string key;
  std::string lifecycle_state;
  std::optional<std::string> subscriber;  // empty: the reference is dropped; unset: left as it is
  std::string description;                // cut at NetBox's limit of 200 characters
};

// A page of what carries a key of ours; `seen` counts what others own too: the next page begins
// there.
struct OwnedPage {
  std::vector<Object> objects;
  std::size_t seen = 0;
  bool more = false;
};

struct Change {
  Object known;
  Wish wish;
};

// Space in a pool that NetBox knows of: an address, a range, or a prefix.
struct Occupied {
  std::string first;  // without mask
  std::string last;
  std::string cidr;  // of a prefix or address; empty: a range
  std::string key;   // empty: not ours
  std::string what;  // "NetBox address 12 (active): router", for the reason of the block
  Kind kind = Kind::kAddress;
  std::int64_t id = 0;  // of an address or prefix; 0: a range
};

class Client {
 public:
  Client(ClientOptions options, std::shared_ptr<Http> http);
  explicit Client(ClientOptions options);  // over libcurl

  // GET /api/status/: NetBox's version.
  Result<std::string> version(Clock::time_point deadline);

  Result<Object> create(const Wish& wish, Clock::time_point deadline);
  // The next free address or prefix of the pool with this NetBox id; NetBox picks. `wish.address`
  // and `wish.vrf_id` are not looked at: both are the pool's.
  Result<Object> take(std::int64_t pool_prefix_id, const Wish& wish, Clock::time_point deadline);
  Result<Object> get(Kind kind, std::int64_t id, Clock::time_point deadline);
  // Objects that really carry the key: an unknown filter makes NetBox answer with everything.
  Result<std::vector<Object>> find_by_key(Kind kind, const std::string& key,
                                          Clock::time_point deadline);
  Result<std::vector<Object>> find_by_keys(Kind kind, const std::vector<std::string>& keys,
                                           Clock::time_point deadline);
  // Addresses with this host in this VRF (unset: the global table), whatever their mask; prefixes
  // with exactly this network and length.
  Result<std::vector<Object>> find_by_address(const Wish& wish, Clock::time_point deadline);
  // In the order of ids; the server may cut the page shorter than `limit`.
  Result<OwnedPage> owned(Kind kind, std::size_t offset, std::size_t limit,
                          Clock::time_point deadline);
  // Address, mask, VRF and key are left alone. With the object's ETag the write is refused
  // (kChanged) when somebody changed it meanwhile.
  Result<Object> change(const Object& known, const Wish& wish, Clock::time_point deadline);
  // Makes an object that has no key ours.
  Result<Object> stamp(const Object& known, const std::string& key, Clock::time_point deadline);
  // Gone already is success.
  Result<void> remove(const Object& known, Clock::time_point deadline);

  // Lists in one call, at most `kMostInList` items, all of one kind. A creation is all or nothing.
  // A change answers with the objects that were there (others are passed over without a word), and
  // removing what is gone is success. Lists carry no ETag.
  static constexpr std::size_t kMostInList = 50;
  Result<std::vector<Object>> create_all(const std::vector<Wish>& wishes,
                                         Clock::time_point deadline);
  Result<std::vector<Object>> change_all(const std::vector<Change>& changes,
                                         Clock::time_point deadline);
  Result<void> remove_all(const std::vector<Object>& known, Clock::time_point deadline);

  // Everything that NetBox holds inside `cidr` in this VRF, page by page; `cidr` itself and
  // containers are not part of it.
  Result<std::vector<Occupied>> occupied(const std::string& cidr,
                                         std::optional<std::int64_t> vrf_id,
                                         Clock::time_point deadline);

  // Makes the choice set, the custom fields and the tag; what exists is kept, missing choices and
  // object types are added, and a field of that name which cannot serve is refused. One line for
  // each thing looked at.
  Result<std::vector<std::string>> setup(Clock::time_point deadline);

  std::chrono::milliseconds timeout() const { return options_.timeout; }
  // "v1", "v2", or what is wrong with the token's reference.
  std::expected<std::string, std::string> token_kind() const;
  Breaker::Look breaker() const { return breaker_->look(); }

 private:
  struct Answer {
    nlohmann::json body;
    std::string etag;
  };
  Result<Answer> call(const std::string& method, const std::string& path,
                      const nlohmann::json* body, const std::string& if_match,
                      Clock::time_point deadline);
  Result<Answer> send(const HttpRequest& request, Clock::time_point deadline);
  Result<std::vector<Object>> list(Kind kind, const std::string& query, Clock::time_point deadline);
  Result<std::vector<nlohmann::json>> pages(const std::string& path, Clock::time_point deadline);
  Result<nlohmann::json> named(const std::string& path, const std::string& name,
                               Clock::time_point deadline);
  Result<std::int64_t> setup_choices(std::vector<std::string>& report, Clock::time_point deadline);
  Result<void> setup_field(const nlohmann::json& field, std::vector<std::string>& report,
                           Clock::time_point deadline);
  Result<void> setup_tag(std::vector<std::string>& report, Clock::time_point deadline);

  ClientOptions options_;
  std::shared_ptr<Http> http_;
  std::shared_ptr<Breaker> breaker_;
};

}  // namespace addrflow::netbox
