#include "addrflow/radius/packet.hpp"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <unordered_map>
#include <utility>

namespace addrflow::radius {
namespace {

constexpr std::size_t kAuthenticatorOffset = 4;

std::size_t length_of(std::span<const std::uint8_t> octets) {
  return static_cast<std::size_t>(octets[2]) << 8U | octets[3];
}

bool same(const std::uint8_t* left, const std::uint8_t* right) {
  return CRYPTO_memcmp(left, right, sizeof(Authenticator)) == 0;
}

Authenticator authenticator_of(std::span<const std::uint8_t> octets) {
  Authenticator result;
  std::copy_n(octets.begin() + kAuthenticatorOffset, result.size(), result.begin());
  return result;
}

void put_authenticator(std::vector<std::uint8_t>& octets, const Authenticator& value) {
  std::copy(value.begin(), value.end(), octets.begin() + kAuthenticatorOffset);
}

// Where the value of the first Message-Authenticator begins; 0: there is none. `octets` is a whole,
// well-formed packet.
std::size_t message_authenticator_in(std::span<const std::uint8_t> octets) {
  for (std::size_t at = kHeaderSize; at + 2 <= octets.size(); at += octets[at + 1]) {
    if (octets[at] == attribute::kMessageAuthenticator && octets[at + 1] == 18) return at + 2;
  }
  return 0;
}

// Every length fits; what decode() would take, without taking it apart.
bool well_formed(std::span<const std::uint8_t> octets) {
  if (octets.size() < kHeaderSize) return false;
  const std::size_t length = length_of(octets);
  if (length < kHeaderSize || length > kMaxPacketSize || length > octets.size()) return false;
  for (std::size_t at = kHeaderSize; at < length; at += octets[at + 1]) {
    if (at + 2 > length || octets[at + 1] < 2 || at + octets[at + 1] > length) return false;
    if (octets[at] == attribute::kMessageAuthenticator && octets[at + 1] != 18) return false;
  }
  return true;
}

bool answers(Code answer, Code request) {
  switch (request) {
    case Code::kDisconnectRequest:
      return answer == Code::kDisconnectAck || answer == Code::kDisconnectNak;
    case Code::kCoaRequest: return answer == Code::kCoaAck || answer == Code::kCoaNak;
    case Code::kAccountingRequest: return answer == Code::kAccountingResponse;
    case Code::kAccessRequest:
      return answer == Code::kAccessAccept || answer == Code::kAccessReject;
    case Code::kStatusServer:  // each port answers in its own way: the one for CoA by CoA-ACK
      return answer == Code::kAccessAccept || answer == Code::kAccountingResponse ||
             answer == Code::kCoaAck || answer == Code::kDisconnectAck;
    default: return false;
  }
}

// A Vendor-Specific value in the usual form: vendor, then one or more (type, length, value). False
// when it has another form.
bool split_vendor(std::string_view value, std::vector<Attribute>& into) {
  const auto octet = [&](std::size_t at) { return static_cast<std::uint8_t>(value[at]); };
  if (value.size() < 7 || octet(0) != 0) return false;
  const std::uint32_t vendor = static_cast<std::uint32_t>(octet(1)) << 16U |
                               static_cast<std::uint32_t>(octet(2)) << 8U | octet(3);
  std::vector<Attribute> found;
  for (std::size_t at = 4; at < value.size();) {
    if (at + 2 > value.size()) return false;
    const std::size_t size = octet(at + 1);
    if (size < 2 || at + size > value.size()) return false;
    found.push_back({vendor, octet(at), std::string{value.substr(at + 2, size - 2)}});
    at += size;
  }
  std::ranges::move(found, std::back_inserter(into));
  return true;
}

}  // namespace

const Attribute* Packet::find(std::uint8_t type, std::uint32_t vendor) const {
  const auto found = std::ranges::find_if(
      attributes, [&](const Attribute& a) { return a.type == type && a.vendor == vendor; });
  return found == attributes.end() ? nullptr : &*found;
}

std::optional<std::uint32_t> Packet::integer(std::uint8_t type, std::uint32_t vendor) const {
  const Attribute* found = find(type, vendor);
  if (found == nullptr || found->value.size() != 4) return std::nullopt;
  std::uint32_t number = 0;
  for (const char c : found->value) number = number << 8U | static_cast<std::uint8_t>(c);
  return number;
}

std::string integer_value(std::uint32_t number) {
  return {static_cast<char>(number >> 24U), static_cast<char>(number >> 16U),
          static_cast<char>(number >> 8U), static_cast<char>(number)};
}

std::expected<Packet, CodecError> decode(std::span<const std::uint8_t> octets) {
  const auto refuse = [](std::string why) { return std::unexpected(CodecError{std::move(why)}); };
  if (octets.size() < kHeaderSize) return refuse("shorter than a header");
  const std::size_t length = length_of(octets);
  if (length < kHeaderSize || length > kMaxPacketSize) {
    return refuse(fmt::format("Length {} is not within 20 and 4096", length));
  }
  if (length > octets.size()) return refuse("shorter than its Length");

  Packet packet;
  packet.code = static_cast<Code>(octets[0]);
  packet.identifier = octets[1];
  packet.authenticator = authenticator_of(octets);
  for (std::size_t at = kHeaderSize; at < length;) {
    if (at + 2 > length) return refuse("an attribute without length at the end");
    const std::uint8_t type = octets[at];
    const std::size_t size = octets[at + 1];
    if (size < 2 || at + size > length) {
      return refuse(fmt::format("attribute {} has length {} at octet {}", type, size, at));
    }
    const std::string value{octets.begin() + static_cast<std::ptrdiff_t>(at + 2),
                            octets.begin() + static_cast<std::ptrdiff_t>(at + size)};
    if (type == attribute::kMessageAuthenticator && size != 18) {
      return refuse("Message-Authenticator is not 16 octets long");
    }
    if (type != attribute::kVendorSpecific || !split_vendor(value, packet.attributes)) {
      packet.attributes.push_back({0, type, value});
    }
    at += size;
  }
  return packet;
}

struct Signer::State {
  EVP_MD* md5 = EVP_MD_fetch(nullptr, "MD5", nullptr);
  EVP_MAC* mac = EVP_MAC_fetch(nullptr, "HMAC", nullptr);
  EVP_MD_CTX* md5_context = EVP_MD_CTX_new();

  // A context for each secret: keying one costs more than using it. Dropped when there are too
  // many.
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const {
      return std::hash<std::string_view>{}(text);
    }
  };
  static constexpr std::size_t kMaxKeyed = 4'096;
  std::unordered_map<std::string, EVP_MAC_CTX*, Hash, std::equal_to<>> keyed;

  State() = default;
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() {
    forget();
    EVP_MD_CTX_free(md5_context);
    EVP_MAC_free(mac);
    EVP_MD_free(md5);
  }
  void forget() {
    for (auto& [secret, context] : keyed) EVP_MAC_CTX_free(context);
    keyed.clear();
  }
  // Ready for a new message under that secret; null where OpenSSL refuses.
  EVP_MAC_CTX* keyed_by(std::string_view secret) {
    if (const auto known = keyed.find(secret); known != keyed.end()) {
      return EVP_MAC_init(known->second, nullptr, 0, nullptr) == 1 ? known->second : nullptr;
    }
    if (keyed.size() >= kMaxKeyed) forget();
    char name[] = "MD5";
    const OSSL_PARAM parameters[] = {OSSL_PARAM_construct_utf8_string("digest", name, 0),
                                     OSSL_PARAM_construct_end()};
    EVP_MAC_CTX* context = EVP_MAC_CTX_new(mac);
    if (context == nullptr ||
        EVP_MAC_init(context, reinterpret_cast<const unsigned char*>(secret.data()), secret.size(),
                     parameters) != 1) {
      EVP_MAC_CTX_free(context);
      return nullptr;
    }
    return keyed.emplace(secret, context).first->second;
  }
};

Signer::Signer() : state_(std::make_unique<State>()) {
  if (state_->md5 == nullptr || state_->mac == nullptr || state_->md5_context == nullptr) {
    throw std::runtime_error("OpenSSL offers no MD5 or HMAC here, and RADIUS cannot do without");
  }
}
Signer::~Signer() = default;
Signer::Signer(Signer&&) noexcept = default;
Signer& Signer::operator=(Signer&&) noexcept = default;

Authenticator Signer::md5(std::span<const std::uint8_t> head, const Authenticator& middle,
                          std::span<const std::uint8_t> rest, std::string_view secret) {
  Authenticator digest;
  EVP_MD_CTX* context = state_->md5_context;
  const bool done = EVP_DigestInit_ex2(context, state_->md5, nullptr) == 1 &&
                    EVP_DigestUpdate(context, head.data(), head.size()) == 1 &&
                    EVP_DigestUpdate(context, middle.data(), middle.size()) == 1 &&
                    EVP_DigestUpdate(context, rest.data(), rest.size()) == 1 &&
                    EVP_DigestUpdate(context, secret.data(), secret.size()) == 1 &&
                    EVP_DigestFinal_ex(context, digest.data(), nullptr) == 1;
  if (!done) throw std::runtime_error("OpenSSL failed to compute MD5");
  return digest;
}

Authenticator Signer::hmac(std::span<const std::uint8_t> packet, const Authenticator& authenticator,
                           std::size_t own_offset, std::string_view secret) {
  static constexpr Authenticator kZero{};
  Authenticator digest;
  std::size_t size = 0;
  EVP_MAC_CTX* context = state_->keyed_by(secret);
  const auto update = [&](std::span<const std::uint8_t> part) {
    return EVP_MAC_update(context, part.data(), part.size()) == 1;
  };
  const bool done =
      context != nullptr && update(packet.first(kAuthenticatorOffset)) && update(authenticator) &&
      update(packet.subspan(kHeaderSize, own_offset - kHeaderSize)) && update(kZero) &&
      update(packet.subspan(own_offset + kZero.size())) &&
      EVP_MAC_final(context, digest.data(), &size, digest.size()) == 1 && size == digest.size();
  if (!done) throw std::runtime_error("OpenSSL failed to compute HMAC-MD5");
  return digest;
}

std::expected<std::vector<std::uint8_t>, CodecError> Signer::build(
    Code code, std::uint8_t identifier, std::span<const Attribute> attributes,
    bool message_authenticator) {
  std::vector<std::uint8_t> octets;
  octets.reserve(256);
  octets.resize(kHeaderSize);
  octets[0] = static_cast<std::uint8_t>(code);
  octets[1] = identifier;
  if (message_authenticator) {
    octets.push_back(attribute::kMessageAuthenticator);
    octets.push_back(18);
    octets.resize(octets.size() + 16);
  }
  for (const Attribute& a : attributes) {
    const std::size_t limit = a.vendor == 0 ? kMaxValueSize : kMaxVendorValueSize;
    if (a.type == 0 || a.value.size() > limit || a.vendor >= 1U << 24U) {
      return std::unexpected(CodecError{fmt::format("attribute {}.{} of {} octets does not fit",
                                                    a.vendor, a.type, a.value.size())});
    }
    const auto size = static_cast<std::uint8_t>(a.value.size() + 2);
    if (a.vendor != 0) {
      octets.push_back(attribute::kVendorSpecific);
      octets.push_back(static_cast<std::uint8_t>(size + 6));
      for (const char c : integer_value(a.vendor)) octets.push_back(static_cast<std::uint8_t>(c));
    }
    octets.push_back(a.type);
    octets.push_back(size);
    octets.insert(octets.end(), a.value.begin(), a.value.end());
  }
  if (octets.size() > kMaxPacketSize) {
    return std::unexpected(CodecError{fmt::format("a packet of {} octets", octets.size())});
  }
  octets[2] = static_cast<std::uint8_t>(octets.size() >> 8U);
  octets[3] = static_cast<std::uint8_t>(octets.size());
  return octets;
}

std::expected<std::vector<std::uint8_t>, CodecError> Signer::encode_request(
    Code code, std::uint8_t identifier, std::span<const Attribute> attributes,
    std::string_view secret, bool message_authenticator) {
  auto octets = build(code, identifier, attributes, message_authenticator);
  if (!octets) return octets;
  constexpr std::size_t kOwn = kHeaderSize + 2;
  if (message_authenticator) {
    std::ranges::copy(hmac(*octets, Authenticator{}, kOwn, secret), octets->begin() + kOwn);
  }
  const std::span<const std::uint8_t> view{*octets};
  put_authenticator(*octets, md5(view.first(kAuthenticatorOffset), Authenticator{},
                                 view.subspan(kHeaderSize), secret));
  return octets;
}

std::vector<std::uint8_t> Signer::encode_status(std::uint8_t identifier, std::string_view secret) {
  auto octets = build(Code::kStatusServer, identifier, {}, true).value();
  Authenticator random;
  if (RAND_bytes(random.data(), static_cast<int>(random.size())) != 1)
    throw std::runtime_error("OpenSSL has no random octets");
  put_authenticator(octets, random);
  constexpr std::size_t kOwn = kHeaderSize + 2;
  std::ranges::copy(hmac(octets, random, kOwn, secret), octets.begin() + kOwn);
  return octets;
}

std::expected<std::vector<std::uint8_t>, CodecError> Signer::encode_answer(
    Code code, std::span<const std::uint8_t> request, std::span<const Attribute> attributes,
    std::string_view secret, bool message_authenticator) {
  auto octets = build(code, request[1], attributes, message_authenticator);
  if (!octets) return octets;
  const Authenticator asked = authenticator_of(request);
  constexpr std::size_t kOwn = kHeaderSize + 2;
  if (message_authenticator) {
    std::ranges::copy(hmac(*octets, asked, kOwn, secret), octets->begin() + kOwn);
  }
  const std::span<const std::uint8_t> view{*octets};
  put_authenticator(
      *octets, md5(view.first(kAuthenticatorOffset), asked, view.subspan(kHeaderSize), secret));
  return octets;
}

bool Signer::verify_request(std::span<const std::uint8_t> octets, std::string_view secret) {
  if (!well_formed(octets)) return false;
  octets = octets.first(length_of(octets));
  if (const std::size_t own = message_authenticator_in(octets); own != 0) {
    const Authenticator expected = hmac(octets, Authenticator{}, own, secret);
    if (!same(expected.data(), octets.data() + own)) return false;
  }
  const Authenticator expected =
      md5(octets.first(kAuthenticatorOffset), Authenticator{}, octets.subspan(kHeaderSize), secret);
  return same(expected.data(), octets.data() + kAuthenticatorOffset);
}

Signer::Verdict Signer::verify_answer(std::span<const std::uint8_t> octets,
                                      std::span<const std::uint8_t> request,
                                      std::string_view secret, bool demand_message_authenticator) {
  if (!well_formed(octets)) return Verdict::kMalformed;
  octets = octets.first(length_of(octets));
  if (octets[1] != request[1] ||
      !answers(static_cast<Code>(octets[0]), static_cast<Code>(request[0]))) {
    return Verdict::kOtherKind;
  }
  const Authenticator asked = authenticator_of(request);
  const Authenticator expected =
      md5(octets.first(kAuthenticatorOffset), asked, octets.subspan(kHeaderSize), secret);
  if (!same(expected.data(), octets.data() + kAuthenticatorOffset)) return Verdict::kForged;
  const std::size_t own = message_authenticator_in(octets);
  if (own == 0) {
    return demand_message_authenticator ? Verdict::kNoMessageAuthenticator : Verdict::kGood;
  }
  const Authenticator keyed = hmac(octets, asked, own, secret);
  return same(keyed.data(), octets.data() + own) ? Verdict::kGood : Verdict::kForged;
}

}  // namespace addrflow::radius
