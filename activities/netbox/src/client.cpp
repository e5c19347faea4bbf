#include "addrflow/netbox/client.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <utility>

#include "json_parts.hpp"

namespace addrflow::netbox {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxDescription = 200;
constexpr std::size_t kMaxMatches = 100;
constexpr std::size_t kPage = 1'000;       // NetBox cuts a larger limit without a word
constexpr std::size_t kMostPages = 2'000;  // two million objects: more is no pool of ours
constexpr std::size_t kMaxQuery = 3'000;   // gunicorn refuses request lines over 4,094 bytes
constexpr std::size_t kMostAtOnce = 8;

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

const char* path_of(Kind kind) { return kind == Kind::kAddress ? kAddresses : kPrefixes; }
const char* name_of(Kind kind) { return kind == Kind::kAddress ? "address" : "prefix"; }

Result<Object> object_of(Kind kind, const json& body) {
  if (!body.is_object()) return std::unexpected(unexpected_shape("object"));
  Object object;
  object.kind = kind;
  const auto id = body.find("id");
  if (id == body.end() || !id->is_number_integer()) return std::unexpected(unexpected_shape("id"));
  object.id = id->get<std::int64_t>();
  const std::string text = text_or_empty(body, name_of(kind));
  const auto slash = text.find('/');
  if (slash == std::string::npos) return std::unexpected(unexpected_shape(name_of(kind)));
  object.address = text.substr(0, slash);
  std::from_chars(text.data() + slash + 1, text.data() + text.size(), object.prefix_length);
  if (const auto status = body.find("status"); status != body.end() && status->is_object()) {
    object.status = text_or_empty(*status, "value");
  }
  if (const auto vrf = body.find("vrf"); vrf != body.end() && vrf->is_object()) {
    object.vrf_id = vrf->value("id", std::int64_t{0});
  }
  object.description = text_or_empty(body, "description");
  if (const auto fields = body.find("custom_fields"); fields != body.end() && fields->is_object()) {
    object.key = text_or_empty(*fields, "idempotency_key");
    object.lifecycle_state = text_or_empty(*fields, "lifecycle_state");
    object.subscriber = text_or_empty(*fields, "subscriber_id");
  }
  return object;
}

Result<std::vector<Object>> objects_of(Kind kind, const json& body) {
  if (!body.is_array()) return std::unexpected(unexpected_shape("list"));
  std::vector<Object> objects;
  for (const json& item : body) {
    auto object = object_of(kind, item);
    if (!object) return std::unexpected(std::move(object.error()));
    objects.push_back(*std::move(object));
  }
  return objects;
}

// A write that succeeded and whose answer cannot be read was done all the same.
template <class T>
Result<T> after_write(Result<T> read) {
  if (!read) read.error().in_doubt = true;
  return read;
}

json changes_of(const Wish& wish) {
  json fields = json::object();
  if (!wish.lifecycle_state.empty()) fields["lifecycle_state"] = wish.lifecycle_state;
  if (wish.subscriber) {
    fields["subscriber_id"] = wish.subscriber->empty() ? json{} : json(*wish.subscriber);
  }
  json body{{"status", wish.status}, {"custom_fields", std::move(fields)}};
  if (!wish.description.empty()) body["description"] = cut(wish.description);
  return body;
}

std::string cidr_of(const Wish& wish) {
  const int host_length = wish.address.contains(':') ? 128 : 32;
  return fmt::format("{}/{}", wish.address,
                     wish.prefix_length > 0 ? wish.prefix_length : host_length);
}

json marked_as_ours(const Wish& wish) {
  json body = changes_of(wish);
  body["custom_fields"]["idempotency_key"] = wish.key;
  // Said at the creation only: a change would replace the tags that people have added.
  body["tags"] = json::array({json{{"slug", kTagSlug}}});
  return body;
}

json creation_of(const Wish& wish) {
  json body = marked_as_ours(wish);
  body[name_of(wish.kind)] = cidr_of(wish);
  if (wish.vrf_id) body["vrf"] = *wish.vrf_id;
  return body;
}

// Mask and notation are not part of who has an address; IPv6 of ours is canonical as NetBox's is.
bool is_the_same(const Object& object, const Wish& wish) {
  if (object.vrf_id != wish.vrf_id) return false;
  if (object.address != wish.address.substr(0, wish.address.find('/'))) return false;
  return object.kind == Kind::kAddress || object.prefix_length == wish.prefix_length;
}

}  // namespace

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
    : options_(std::move(options)),
      http_(std::move(http)),
      breaker_(std::make_shared<Breaker>(options_.breaker)) {}

Client::Client(ClientOptions options)
    : Client(options, make_curl_http({.concurrency = std::clamp<std::size_t>(options.concurrency, 1,
                                                                             kMostAtOnce)})) {}

std::expected<std::string, std::string> Client::token_kind() const {
  const auto token = read_token(options_.token);
  if (!token) return std::unexpected(token.error());
  return token->starts_with("nbt_") ? "v2" : "v1";
}

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
  return send(request, deadline);
}

Result<Client::Answer> Client::send(const HttpRequest& request, Clock::time_point deadline) {
  if (!breaker_->may_send()) {
    const Breaker::Look look = breaker_->look();
    return std::unexpected(Error{.kind = ErrorKind::kResting,
                                 .message = "NetBox is left alone for a while: " + look.why,
                                 .retryable = true,
                                 .retry_after = look.rest});
  }
  const bool writes = request.method != "GET";
  const auto response = http_->send(request, std::min(deadline, Clock::now() + options_.timeout));
  if (!response) {
    Error error = classify(response.error(), writes);
    // No slot, or no time left, before anything went out.
    const bool own = !response.error().sent && response.error().timed_out;
    own ? breaker_->not_sent() : breaker_->failed(error.message);
    return std::unexpected(std::move(error));
  }
  auto parsed = classify(*response, writes);
  if (!parsed) {
    const bool sick = parsed.error().kind == ErrorKind::kServer;
    sick ? breaker_->failed(parsed.error().message) : breaker_->answered();
    return std::unexpected(std::move(parsed.error()));
  }
  breaker_->answered();
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

// --- one object ----------------------------------------------------------------------------------

Result<Object> Client::create(const Wish& wish, Clock::time_point deadline) {
  const json body = creation_of(wish);
  const auto answer = call("POST", path_of(wish.kind), &body, "", deadline);
  if (!answer) return std::unexpected(answer.error());
  auto made = after_write(object_of(wish.kind, answer->body));
  if (made) made->etag = answer->etag;
  return made;
}

Result<Object> Client::take(std::int64_t pool_prefix_id, const Wish& wish,
                            Clock::time_point deadline) {
  json body = marked_as_ours(wish);
  // An address gets its pool's mask where none is named; a prefix must say how long it is to be.
  if (wish.prefix_length > 0) body["prefix_length"] = wish.prefix_length;
  const auto path = fmt::format("{}{}/available-{}/", kPrefixes, pool_prefix_id,
                                wish.kind == Kind::kAddress ? "ips" : "prefixes");
  const auto answer = call("POST", path, &body, "", deadline);
  if (!answer) return std::unexpected(answer.error());
  return after_write(object_of(wish.kind, answer->body));
}

Result<Object> Client::get(Kind kind, std::int64_t id, Clock::time_point deadline) {
  const auto answer = call("GET", fmt::format("{}{}/", path_of(kind), id), nullptr, "", deadline);
  if (!answer) return std::unexpected(answer.error());
  auto found = object_of(kind, answer->body);
  if (found) found->etag = answer->etag;
  return found;
}

Result<std::vector<Object>> Client::list(Kind kind, const std::string& query,
                                         Clock::time_point deadline) {
  const auto path = fmt::format("{}?{}&limit={}", path_of(kind), query, kMaxMatches);
  const auto answer = call("GET", path, nullptr, "", deadline);
  if (!answer) return std::unexpected(answer.error());
  const json& body = answer->body;
  if (!body.is_object() || !body.contains("results")) {
    return std::unexpected(unexpected_shape("results"));
  }
  // A look-up that answers a page full is one whose filter NetBox ignored: what is sought may
  // stand on another page, so "not there" cannot be said.
  if (const auto next = body.find("next"); next != body.end() && next->is_string()) {
    return std::unexpected(Error{.kind = ErrorKind::kConfiguration,
                                 .message =
                                     "NetBox ignored the filter of a look-up: are its custom "
                                     "fields set up (addrflow netbox setup)?",
                                 .retryable = true});
  }
  return objects_of(kind, body["results"]);
}

Result<OwnedPage> Client::owned(Kind kind, std::size_t offset, std::size_t limit,
                                Clock::time_point deadline) {
  const auto path = fmt::format("{}?ordering=id&limit={}&offset={}", path_of(kind), limit, offset);
  const auto answer = call("GET", path, nullptr, "", deadline);
  if (!answer) return std::unexpected(answer.error());
  const json& body = answer->body;
  if (!body.is_object() || !body.contains("results")) {
    return std::unexpected(unexpected_shape("results"));
  }
  auto objects = objects_of(kind, body["results"]);
  if (!objects) return std::unexpected(std::move(objects.error()));
  OwnedPage page{.objects = *std::move(objects)};
  page.seen = page.objects.size();
  std::erase_if(page.objects, [](const Object& object) { return object.key.empty(); });
  const auto next = body.find("next");
  page.more = next != body.end() && next->is_string() && page.seen > 0;
  return page;
}

Result<std::vector<Object>> Client::find_by_key(Kind kind, const std::string& key,
                                                Clock::time_point deadline) {
  return find_by_keys(kind, {key}, deadline);
}

Result<std::vector<Object>> Client::find_by_keys(Kind kind, const std::vector<std::string>& keys,
                                                 Clock::time_point deadline) {
  std::vector<Object> all;
  std::size_t next = 0;
  while (next < keys.size()) {
    std::string query;
    for (std::size_t count = 0; next < keys.size() && count < kMostInList; ++next) {
      if (keys[next].empty()) continue;
      const std::string part = "cf_idempotency_key=" + escaped(keys[next]);
      if (!query.empty() && query.size() + part.size() > kMaxQuery) break;
      query += (query.empty() ? "" : "&") + part;
      ++count;
    }
    if (query.empty()) continue;
    auto found = list(kind, query, deadline);
    if (!found) return found;
    for (Object& object : *found) {
      if (!object.key.empty() && std::ranges::find(keys, object.key) != keys.end()) {
        all.push_back(std::move(object));
      }
    }
  }
  return all;
}

Result<std::vector<Object>> Client::find_by_address(const Wish& wish, Clock::time_point deadline) {
  const std::string sought = wish.kind == Kind::kAddress ? wish.address : cidr_of(wish);
  auto found = list(wish.kind, fmt::format("{}={}", name_of(wish.kind), escaped(sought)), deadline);
  if (found) {
    std::erase_if(*found, [&](const Object& item) { return !is_the_same(item, wish); });
  }
  return found;
}

Result<Object> Client::change(const Object& known, const Wish& wish, Clock::time_point deadline) {
  const json body = changes_of(wish);
  const auto path = fmt::format("{}{}/", path_of(known.kind), known.id);
  const auto answer = call("PATCH", path, &body, known.etag, deadline);
  if (!answer) return std::unexpected(answer.error());
  auto changed = after_write(object_of(known.kind, answer->body));
  if (changed) changed->etag = answer->etag;
  return changed;
}

Result<Object> Client::stamp(const Object& known, const std::string& key,
                             Clock::time_point deadline) {
  const json body{{"custom_fields", {{"idempotency_key", key}}}};
  const auto path = fmt::format("{}{}/", path_of(known.kind), known.id);
  const auto answer = call("PATCH", path, &body, known.etag, deadline);
  if (!answer) return std::unexpected(answer.error());
  auto stamped = after_write(object_of(known.kind, answer->body));
  if (stamped) stamped->etag = answer->etag;
  return stamped;
}

Result<void> Client::remove(const Object& known, Clock::time_point deadline) {
  const auto path = fmt::format("{}{}/", path_of(known.kind), known.id);
  const auto answer = call("DELETE", path, nullptr, known.etag, deadline);
  if (answer || answer.error().kind == ErrorKind::kNotFound) return {};
  return std::unexpected(answer.error());
}

// --- lists ---------------------------------------------------------------------------------------

Result<std::vector<Object>> Client::create_all(const std::vector<Wish>& wishes,
                                               Clock::time_point deadline) {
  if (wishes.empty()) return std::vector<Object>{};
  json body = json::array();
  for (const Wish& wish : wishes) body.push_back(creation_of(wish));
  const Kind kind = wishes.front().kind;
  const auto answer = call("POST", path_of(kind), &body, "", deadline);
  if (!answer) return std::unexpected(answer.error());
  return after_write(objects_of(kind, answer->body));
}

Result<std::vector<Object>> Client::change_all(const std::vector<Change>& changes,
                                               Clock::time_point deadline) {
  if (changes.empty()) return std::vector<Object>{};
  json body = json::array();
  for (const Change& change : changes) {
    json item = changes_of(change.wish);
    item["id"] = change.known.id;
    body.push_back(std::move(item));
  }
  const Kind kind = changes.front().known.kind;
  const auto answer = call("PATCH", path_of(kind), &body, "", deadline);
  if (!answer) return std::unexpected(answer.error());
  return after_write(objects_of(kind, answer->body));
}

Result<void> Client::remove_all(const std::vector<Object>& known, Clock::time_point deadline) {
  if (known.empty()) return {};
  json body = json::array();
  for (const Object& object : known) body.push_back(json{{"id", object.id}});
  const auto answer = call("DELETE", path_of(known.front().kind), &body, "", deadline);
  if (answer) return {};
  return std::unexpected(answer.error());
}

// --- what is there -------------------------------------------------------------------------------

Result<std::vector<json>> Client::pages(const std::string& path, Clock::time_point deadline) {
  std::vector<json> items;
  for (std::size_t page = 0; page < kMostPages; ++page) {
    // By offset and not by `next`: that address is made from the Host header, which a proxy
    // changes.
    const auto answer = call("GET", fmt::format("{}&limit={}&offset={}", path, kPage, items.size()),
                             nullptr, "", deadline);
    if (!answer) return std::unexpected(answer.error());
    const json& body = answer->body;
    if (!body.is_object() || !body.contains("results") || !body["results"].is_array()) {
      return std::unexpected(unexpected_shape("results"));
    }
    for (const json& item : body["results"]) items.push_back(item);
    const auto next = body.find("next");
    if (next == body.end() || !next->is_string() || body["results"].empty()) return items;
  }
  return std::unexpected(Error{.kind = ErrorKind::kInvalid,
                               .message = "NetBox holds more objects than an import reads"});
}

Result<std::vector<Occupied>> Client::occupied(const std::string& cidr,
                                               std::optional<std::int64_t> vrf_id,
                                               Clock::time_point deadline) {
  const std::string vrf = vrf_id ? std::to_string(*vrf_id) : "null";
  const auto in_vrf = [&vrf_id](const json& item) {
    const auto found = item.find("vrf");
    const bool global = found == item.end() || !found->is_object();
    return global ? !vrf_id : vrf_id == found->value("id", std::int64_t{0});
  };
  std::vector<Occupied> all;
  const auto describe = [](const char* what, const json& item) {
    const auto status = item.value("status", json::object());
    const std::string text = text_or_empty(item, "description");
    return fmt::format("NetBox {} {} ({}){}{}", what, item.value("id", std::int64_t{0}),
                       status.is_object() ? text_or_empty(status, "value") : "",
                       text.empty() ? "" : ": ", text);
  };
  for (const Kind kind : {Kind::kAddress, Kind::kPrefix}) {
    const auto items =
        pages(fmt::format("{}?{}={}&vrf_id={}", path_of(kind),
                          kind == Kind::kAddress ? "parent" : "within", escaped(cidr), vrf),
              deadline);
    if (!items) return std::unexpected(items.error());
    for (const json& item : *items) {
      const auto object = object_of(kind, item);
      if (!object) return std::unexpected(object.error());
      const std::string own = fmt::format("{}/{}", object->address, object->prefix_length);
      const bool host = kind == Kind::kAddress;
      // A pool's first address may be written with the pool's own mask.
      if (!in_vrf(item) || object->status == "container" || (!host && own == cidr)) continue;
      all.push_back({.first = object->address,
                     .last = host ? object->address : "",
                     .cidr = host ? "" : own,
                     .key = object->key,
                     .what = describe(name_of(kind), item),
                     .kind = kind,
                     .id = object->id});
    }
  }
  const auto ranges =
      pages(fmt::format("{}?parent={}&vrf_id={}", kRanges, escaped(cidr), vrf), deadline);
  if (!ranges) return std::unexpected(ranges.error());
  for (const json& item : *ranges) {
    if (!item.is_object() || !in_vrf(item)) continue;
    const std::string first = text_or_empty(item, "start_address");
    const std::string last = text_or_empty(item, "end_address");
    if (first.empty() || last.empty()) return std::unexpected(unexpected_shape("range"));
    all.push_back({.first = first.substr(0, first.find('/')),
                   .last = last.substr(0, last.find('/')),
                   .cidr = "",
                   .key = "",
                   .what = describe("range", item)});
  }
  return all;
}

}  // namespace addrflow::netbox
