#include "addrflow/netbox/client.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <utility>

namespace addrflow::netbox {
namespace {

using nlohmann::json;

constexpr const char* kAddresses = "/api/ipam/ip-addresses/";
constexpr const char* kFields = "/api/extras/custom-fields/";
constexpr const char* kChoiceSets = "/api/extras/custom-field-choice-sets/";
constexpr const char* kChoiceSet = "lifecycle-state";
constexpr std::size_t kMaxDescription = 200;
constexpr std::size_t kMaxMatches = 100;

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                       c == '-' || c == '_' || c == '.' || c == '~';
    out += plain ? std::string(1, c) : fmt::format("%{:02X}", byte);
  }
  return out;
}

// Cut without breaking a UTF-8 character: NetBox counts characters, so bytes are the safe side.
std::string cut(std::string text) {
  if (text.size() <= kMaxDescription) return text;
  std::size_t end = kMaxDescription;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) --end;
  text.resize(end);
  return text;
}

Error configuration_error(std::string message) {
  return {.kind = ErrorKind::kConfiguration, .message = std::move(message), .retryable = true};
}

// The token itself, or what is wrong with the reference; never a part of the token.
std::expected<std::string, std::string> read_token(const std::string& reference) {
  std::string token;
  if (reference.starts_with("env:")) {
    const char* value = std::getenv(reference.c_str() + 4);
    if (value != nullptr) token = value;
  } else if (reference.starts_with("file:")) {
    std::ifstream file{reference.substr(5), std::ios::binary};
    if (!file) return std::unexpected(fmt::format("{} cannot be read", reference));
    token.assign(std::istreambuf_iterator<char>{file}, {});
  } else {
    return std::unexpected("the NetBox token's reference is neither env:NAME nor file:/path");
  }
  while (!token.empty() && (token.back() == '\n' || token.back() == '\r')) token.pop_back();
  if (token.empty()) return std::unexpected(fmt::format("{} holds no NetBox token", reference));
  if (std::ranges::any_of(token, [](unsigned char c) { return c <= ' ' || c > '~'; })) {
    return std::unexpected(fmt::format("{} holds what cannot be a NetBox token", reference));
  }
  return token;
}

Error unexpected_shape(std::string_view what) {
  return {.kind = ErrorKind::kNotNetbox,
          .message = fmt::format("NetBox's answer has no usable {}", what),
          .retryable = true};
}

std::string text_or_empty(const json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string{};
}

Result<Address> address_of(const json& body) {
  if (!body.is_object()) return std::unexpected(unexpected_shape("address object"));
  Address address;
  const auto id = body.find("id");
  if (id == body.end() || !id->is_number_integer()) return std::unexpected(unexpected_shape("id"));
  address.id = id->get<std::int64_t>();
  const std::string text = text_or_empty(body, "address");
  const auto slash = text.find('/');
  if (slash == std::string::npos) return std::unexpected(unexpected_shape("address"));
  address.address = text.substr(0, slash);
  std::from_chars(text.data() + slash + 1, text.data() + text.size(), address.prefix_length);
  if (const auto status = body.find("status"); status != body.end() && status->is_object()) {
    address.status = text_or_empty(*status, "value");
  }
  if (const auto vrf = body.find("vrf"); vrf != body.end() && vrf->is_object()) {
    address.vrf_id = vrf->value("id", std::int64_t{0});
  }
  if (const auto fields = body.find("custom_fields"); fields != body.end() && fields->is_object()) {
    address.key = text_or_empty(*fields, "idempotency_key");
    address.lifecycle_state = text_or_empty(*fields, "lifecycle_state");
  }
  return address;
}

json changes_of(const AddressWish& wish) {
  json fields = json::object();
  if (!wish.lifecycle_state.empty()) fields["lifecycle_state"] = wish.lifecycle_state;
  if (wish.subscriber) {
    fields["subscriber_id"] = wish.subscriber->empty() ? json{} : json(*wish.subscriber);
  }
  json body{{"status", wish.status}, {"custom_fields", std::move(fields)}};
  if (!wish.description.empty()) body["description"] = cut(wish.description);
  return body;
}

// Mask and notation are not part of who has an address; IPv6 of ours is canonical as NetBox's is.
bool same_address(const std::string& left, const std::string& right) {
  return left.substr(0, left.find('/')) == right.substr(0, right.find('/'));
}

const json& choices() {
  // Said outright: nlohmann takes a list of pairs of strings for an object.
  static const json kChoices = json::array({
      json::array({"pending", "Pending"}),
      json::array({"allocated", "Allocated"}),
      json::array({"active", "Active"}),
      json::array({"suspended", "Suspended"}),
      json::array({"revoking", "Revoking"}),
      json::array({"revoked", "Revoked"}),
  });
  return kChoices;
}

json text_field(const char* name, const char* label, bool unique) {
  return {{"object_types", json::array({"ipam.ipaddress", "ipam.prefix"})},
          {"type", "text"},
          {"name", name},
          {"label", label},
          // A look-up by a part of the value would find other people's objects.
          {"filter_logic", "exact"},
          {"unique", unique},
          {"required", false},
          {"ui_editable", unique ? "no" : "yes"}};
}

}  // namespace

std::expected<std::string, std::string> base_url(std::string_view url) {
  if (!url.starts_with("http://") && !url.starts_with("https://")) {
    return std::unexpected("NETBOX_API_URL is not an http:// or https:// address");
  }
  if (url.find('@') != std::string_view::npos) {
    return std::unexpected("NETBOX_API_URL holds credentials; they belong into the token");
  }
  const auto without_slashes = [&url] {
    while (url.ends_with('/')) url.remove_suffix(1);
  };
  without_slashes();
  if (url.ends_with("/api")) url.remove_suffix(4);
  without_slashes();
  return std::string{url};
}

std::string authorization_of(std::string_view token) {
  return fmt::format("{} {}", token.starts_with("nbt_") ? "Bearer" : "Token", token);
}

Client::Client(ClientOptions options, std::shared_ptr<Http> http)
    : options_(std::move(options)), http_(std::move(http)) {}

Client::Client(ClientOptions options)
    : Client(options,
             make_curl_http({.concurrency = std::max<std::size_t>(1, options.concurrency)})) {}

Result<Client::Answer> Client::call(const std::string& method, const std::string& path,
                                    const json* body, const std::string& if_match,
                                    Clock::time_point deadline) {
  const auto base = base_url(options_.url);
  if (!base) return std::unexpected(configuration_error(base.error()));
  const auto token = read_token(options_.token);
  if (!token) return std::unexpected(configuration_error(token.error()));

  HttpRequest request{.method = method, .url = *base + path};
  request.headers = {{"Accept", "application/json"}, {"Authorization", authorization_of(*token)}};
  if (!if_match.empty()) request.headers["If-Match"] = if_match;
  if (body != nullptr) {
    request.headers["Content-Type"] = "application/json";
    request.body = body->dump(-1, ' ', false, json::error_handler_t::replace);
  }
  const bool writes = method != "GET";
  const auto response = http_->send(request, std::min(deadline, Clock::now() + options_.timeout));
  if (!response) return std::unexpected(classify(response.error(), writes));
  auto parsed = classify(*response, writes);
  if (!parsed) return std::unexpected(std::move(parsed.error()));
  const auto etag = response->headers.find("etag");
  return Answer{std::move(*parsed), etag == response->headers.end() ? "" : etag->second};
}

Result<std::string> Client::version(Clock::time_point deadline) {
  const auto answer = call("GET", "/api/status/", nullptr, "", deadline);
  if (!answer) return std::unexpected(answer.error());
  if (!answer->body.is_object()) return std::unexpected(unexpected_shape("status"));
  std::string version = text_or_empty(answer->body, "netbox-version");
  if (version.empty()) return std::unexpected(unexpected_shape("netbox-version"));
  return version;
}

Result<Address> Client::create(const AddressWish& wish, Clock::time_point deadline) {
  json body = changes_of(wish);
  const int host_length = wish.address.contains(':') ? 128 : 32;
  body["address"] =
      fmt::format("{}/{}", wish.address, wish.prefix_length > 0 ? wish.prefix_length : host_length);
  body["custom_fields"]["idempotency_key"] = wish.key;
  if (wish.vrf_id) body["vrf"] = *wish.vrf_id;
  const auto answer = call("POST", kAddresses, &body, "", deadline);
  if (!answer) return std::unexpected(answer.error());
  auto made = address_of(answer->body);
  if (!made) {
    made.error().in_doubt = true;
  } else {
    made->etag = answer->etag;
  }
  return made;
}

Result<Address> Client::get(std::int64_t id, Clock::time_point deadline) {
  const auto answer = call("GET", fmt::format("{}{}/", kAddresses, id), nullptr, "", deadline);
  if (!answer) return std::unexpected(answer.error());
  auto found = address_of(answer->body);
  if (found) found->etag = answer->etag;
  return found;
}

Result<std::vector<Address>> Client::list(const std::string& query, Clock::time_point deadline) {
  const auto path = fmt::format("{}?{}&limit={}", kAddresses, query, kMaxMatches);
  const auto answer = call("GET", path, nullptr, "", deadline);
  if (!answer) return std::unexpected(answer.error());
  const json& body = answer->body;
  if (!body.is_object() || !body.contains("results") || !body["results"].is_array()) {
    return std::unexpected(unexpected_shape("results"));
  }
  // A look-up that answers a page full is one whose filter NetBox ignored: what is sought may
  // stand on another page, so "not there" cannot be said.
  if (const auto next = body.find("next"); next != body.end() && next->is_string()) {
    return std::unexpected(Error{.kind = ErrorKind::kConfiguration,
                                 .message =
                                     "NetBox ignored the filter of a look-up: are its custom "
                                     "fields set up (addrflow setup)?",
                                 .retryable = true});
  }
  std::vector<Address> found;
  for (const auto& item : body["results"]) {
    auto address = address_of(item);
    if (!address) return std::unexpected(address.error());
    found.push_back(std::move(*address));
  }
  return found;
}

Result<OwnedPage> Client::owned(Kind kind, int offset, int limit, Clock::time_point deadline) {
  const char* const where = kind == Kind::kAddresses ? kAddresses : "/api/ipam/prefixes/";
  const auto answer =
      call("GET", fmt::format("{}?ordering=id&limit={}&offset={}", where, limit, offset), nullptr,
           "", deadline);
  if (!answer) return std::unexpected(answer.error());
  const json& body = answer->body;
  if (!body.is_object() || !body.contains("results") || !body["results"].is_array()) {
    return std::unexpected(unexpected_shape("results"));
  }
  OwnedPage page;
  for (const auto& item : body["results"]) {
    const auto fields = item.find("custom_fields");
    if (fields == item.end() || !fields->is_object()) continue;
    Owned owned{.key = text_or_empty(*fields, "idempotency_key")};
    if (owned.key.empty()) continue;
    owned.id = item.value("id", std::int64_t{0});
    owned.space = text_or_empty(item, kind == Kind::kAddresses ? "address" : "prefix");
    if (kind == Kind::kAddresses) owned.space = owned.space.substr(0, owned.space.find('/'));
    if (const auto status = item.find("status"); status != item.end() && status->is_object())
      owned.status = text_or_empty(*status, "value");
    page.objects.push_back(std::move(owned));
  }
  const auto next = body.find("next");
  page.more = next != body.end() && next->is_string();
  return page;
}

Result<std::vector<Address>> Client::find_by_key(const std::string& key,
                                                 Clock::time_point deadline) {
  if (key.empty()) return std::vector<Address>{};
  auto found = list("cf_idempotency_key=" + escaped(key), deadline);
  if (found) std::erase_if(*found, [&key](const Address& item) { return item.key != key; });
  return found;
}

Result<std::vector<Address>> Client::find_by_address(const std::string& address,
                                                     std::optional<std::int64_t> vrf_id,
                                                     Clock::time_point deadline) {
  auto found = list("address=" + escaped(address), deadline);
  if (found) {
    std::erase_if(*found, [&](const Address& item) {
      return !same_address(item.address, address) || item.vrf_id != vrf_id;
    });
  }
  return found;
}

Result<Address> Client::change(const Address& known, const AddressWish& wish,
                               Clock::time_point deadline) {
  const json body = changes_of(wish);
  const auto path = fmt::format("{}{}/", kAddresses, known.id);
  const auto answer = call("PATCH", path, &body, known.etag, deadline);
  if (!answer) return std::unexpected(answer.error());
  auto changed = address_of(answer->body);
  if (!changed) {
    changed.error().in_doubt = true;
  } else {
    changed->etag = answer->etag;
  }
  return changed;
}

Result<void> Client::remove(const Address& known, Clock::time_point deadline) {
  const auto path = fmt::format("{}{}/", kAddresses, known.id);
  const auto answer = call("DELETE", path, nullptr, known.etag, deadline);
  if (answer || answer.error().kind == ErrorKind::kNotFound) return {};
  return std::unexpected(answer.error());
}

// --- setup -------------------------------------------------------------------------------------

Result<json> Client::named(const std::string& path, const std::string& name,
                           Clock::time_point deadline) {
  const auto answer = call("GET", path + "?name=" + escaped(name), nullptr, "", deadline);
  if (!answer) return std::unexpected(answer.error());
  if (answer->body.is_object() && answer->body.contains("results")) {
    for (const auto& item : answer->body["results"]) {
      if (item.is_object() && text_or_empty(item, "name") == name) return item;
    }
  }
  return json{};
}

Result<std::int64_t> Client::setup_choices(std::vector<std::string>& report,
                                           Clock::time_point deadline) {
  auto found = named(kChoiceSets, kChoiceSet, deadline);
  if (!found) return std::unexpected(found.error());
  if (found->is_null()) {
    const json body{{"name", kChoiceSet}, {"extra_choices", choices()}};
    const auto made = call("POST", kChoiceSets, &body, "", deadline);
    if (!made) return std::unexpected(made.error());
    report.push_back(fmt::format("choice set {}: made", kChoiceSet));
    return made->body.value("id", std::int64_t{0});
  }
  const std::int64_t id = found->value("id", std::int64_t{0});
  json wanted = found->value("extra_choices", json::array());
  const std::size_t before = wanted.size();
  for (const auto& choice : choices()) {
    const bool known = std::ranges::any_of(
        wanted, [&](const json& item) { return item.is_array() && item.at(0) == choice.at(0); });
    if (!known) wanted.push_back(choice);
  }
  if (wanted.size() != before) {
    const json body{{"extra_choices", wanted}};
    const auto path = fmt::format("{}{}/", kChoiceSets, id);
    const auto changed = call("PATCH", path, &body, "", deadline);
    if (!changed) return std::unexpected(changed.error());
  }
  report.push_back(fmt::format("choice set {}: {}", kChoiceSet,
                               wanted.size() == before ? "exists" : "choices added"));
  return id;
}

Result<void> Client::setup_field(const json& field, std::vector<std::string>& report,
                                 Clock::time_point deadline) {
  const std::string name = field.at("name").get<std::string>();
  const auto found = named(kFields, name, deadline);
  if (!found) return std::unexpected(found.error());
  if (found->is_null()) {
    const auto made = call("POST", kFields, &field, "", deadline);
    if (!made) return std::unexpected(made.error());
    report.push_back(fmt::format("custom field {}: made", name));
    return {};
  }
  const auto value_of = [&](const char* part) {
    const auto part_of = found->find(part);
    return part_of != found->end() && part_of->is_object() ? text_or_empty(*part_of, "value") : "";
  };
  const auto types = found->value("object_types", json::array());
  const bool covers = std::ranges::find(types, json("ipam.ipaddress")) != types.end();
  const bool unique = found->value("unique", false) || !field.value("unique", false);
  if (!covers || !unique || value_of("type") != text_or_empty(field, "type") ||
      value_of("filter_logic") != "exact") {
    return std::unexpected(Error{
        .kind = ErrorKind::kInvalid,
        .message = fmt::format("NetBox's custom field {} exists, but must be of type {}, for IP "
                               "addresses, filtered exactly{}",
                               name, field.at("type").get<std::string>(),
                               field.value("unique", false) ? ", and unique" : "")});
  }
  report.push_back(fmt::format("custom field {}: exists", name));
  return {};
}

Result<std::vector<std::string>> Client::setup(Clock::time_point deadline) {
  std::vector<std::string> report;
  const auto choice_set = setup_choices(report, deadline);
  if (!choice_set) return std::unexpected(choice_set.error());
  const json fields[] = {text_field("idempotency_key", "Idempotency key", true),
                         text_field("subscriber_id", "Subscriber", false),
                         {{"object_types", json::array({"ipam.ipaddress", "ipam.prefix"})},
                          {"type", "select"},
                          {"name", "lifecycle_state"},
                          {"label", "Lifecycle state"},
                          {"choice_set", *choice_set},
                          {"filter_logic", "exact"}}};
  for (const json& field : fields) {
    if (const auto done = setup_field(field, report, deadline); !done) {
      return std::unexpected(done.error());
    }
  }
  return report;
}

}  // namespace addrflow::netbox
