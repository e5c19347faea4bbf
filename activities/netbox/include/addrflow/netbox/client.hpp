// NetBox's REST API as far as addrflow needs it: addresses, and the custom fields that mark ours.
#pragma once

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
  std::size_t concurrency = 6;
};

// The base without a trailing slash and without /api, or what is wrong with the URL.
std::expected<std::string, std::string> base_url(std::string_view url);

// The Authorization header of a token: v2 tokens (`nbt_…`, NetBox 4.5 on) are bearers.
std::string authorization_of(std::string_view token);

// Only what a caller decides by; the rest of the object stays where it is.
struct Address {
  std::int64_t id = 0;
  std::string address;  // without mask
  int prefix_length = 0;
  std::string status;
  std::optional<std::int64_t> vrf_id;
  std::string key;              // custom field idempotency_key; empty: not ours
  std::string lifecycle_state;  // custom field
  std::string etag;             // empty where NetBox gave none: If-Match is then not understood
};

// What an address is to be. Empty strings are left out of a change, except the subscriber.
struct AddressWish {
  std::string address;
  int prefix_length = 0;  // 0: a host
  std::optional<std::int64_t> vrf_id;
  std::string status;  // always sent: NetBox's default is `active`
  std::string key;
  std::string lifecycle_state;
  std::optional<std::string> subscriber;  // empty: the reference is dropped; unset: left as it is
  std::string description;                // cut at NetBox's limit of 200 characters
};

// An object with our key, as the audit compares it.
struct Owned {
  std::int64_t id = 0;
  std::string key;
  std::string space;  // an address without its mask, or a prefix
  std::string status;
};

struct OwnedPage {
  std::vector<Owned> objects;
  bool more = false;
};

class Client {
 public:
  Client(ClientOptions options, std::shared_ptr<Http> http);
  explicit Client(ClientOptions options);  // over libcurl

  // GET /api/status/: NetBox's version.
  Result<std::string> version(Clock::time_point deadline);

  Result<Address> create(const AddressWish& wish, Clock::time_point deadline);
  Result<Address> get(std::int64_t id, Clock::time_point deadline);
  // Objects that really carry the key: an unknown filter makes NetBox answer with everything.
  Result<std::vector<Address>> find_by_key(const std::string& key, Clock::time_point deadline);
  // Objects with this address in this VRF (unset: the global table), whatever their mask.
  Result<std::vector<Address>> find_by_address(const std::string& address,
                                               std::optional<std::int64_t> vrf_id,
                                               Clock::time_point deadline);
  // One page of the addresses or prefixes, in the order of ids; those without a key of ours are
  // left out.
  enum class Kind { kAddresses, kPrefixes };
  Result<OwnedPage> owned(Kind kind, int offset, int limit, Clock::time_point deadline);
  // Address, mask, VRF and key are left alone. With the object's ETag the write is refused
  // (kChanged) when somebody changed it meanwhile.
  Result<Address> change(const Address& known, const AddressWish& wish, Clock::time_point deadline);
  // Gone already is success.
  Result<void> remove(const Address& known, Clock::time_point deadline);

  // Makes the choice set and the custom fields; what exists is kept, missing choices are added, and
  // a field of that name which cannot serve is refused. One line for each thing looked at.
  Result<std::vector<std::string>> setup(Clock::time_point deadline);

  std::chrono::milliseconds timeout() const { return options_.timeout; }

 private:
  struct Answer {
    nlohmann::json body;
    std::string etag;
  };
  Result<Answer> call(const std::string& method, const std::string& path,
                      const nlohmann::json* body, const std::string& if_match,
                      Clock::time_point deadline);
  Result<std::vector<Address>> list(const std::string& query, Clock::time_point deadline);
  Result<nlohmann::json> named(const std::string& path, const std::string& name,
                               Clock::time_point deadline);
  Result<std::int64_t> setup_choices(std::vector<std::string>& report, Clock::time_point deadline);
  Result<void> setup_field(const nlohmann::json& field, std::vector<std::string>& report,
                           Clock::time_point deadline);

  ClientOptions options_;
  std::shared_ptr<Http> http_;
};

}  // namespace addrflow::netbox
