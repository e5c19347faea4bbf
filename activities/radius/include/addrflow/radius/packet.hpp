// RADIUS packets as a dynamic authorization client writes and reads them: RFC 2865 (layout), RFC
// 5176 (CoA and Disconnect), RFC 3579 (Message-Authenticator). What comes from the network is
// decoded strictly: a packet that breaks a length rule is no packet.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace addrflow::radius {

enum class Code : std::uint8_t {
  kAccessRequest = 1,
  kAccessAccept = 2,
  kAccessReject = 3,
  kAccountingRequest = 4,
  kAccountingResponse = 5,
  kStatusServer = 12,
  kDisconnectRequest = 40,
  kDisconnectAck = 41,
  kDisconnectNak = 42,
  kCoaRequest = 43,
  kCoaAck = 44,
  kCoaNak = 45,
};

// Attribute numbers that the code itself needs; the others are data (a dialect's `[attributes]`).
namespace attribute {
inline constexpr std::uint8_t kUserName = 1;
inline constexpr std::uint8_t kFramedIpAddress = 8;
inline constexpr std::uint8_t kReplyMessage = 18;
inline constexpr std::uint8_t kVendorSpecific = 26;
inline constexpr std::uint8_t kAcctSessionId = 44;
inline constexpr std::uint8_t kEventTimestamp = 55;
inline constexpr std::uint8_t kMessageAuthenticator = 80;
inline constexpr std::uint8_t kErrorCause = 101;
}  // namespace attribute

inline constexpr std::size_t kHeaderSize = 20;
inline constexpr std::size_t kMaxPacketSize = 4096;
inline constexpr std::size_t kMaxValueSize = 253;        // 255 less type and length
inline constexpr std::size_t kMaxVendorValueSize = 247;  // less vendor, type and length as well

using Authenticator = std::array<std::uint8_t, 16>;

// One attribute; `value` holds octets. With a vendor it travels inside Vendor-Specific (26).
struct Attribute {
  std::uint32_t vendor = 0;
  std::uint8_t type = 0;
  std::string value;

  bool operator==(const Attribute&) const = default;
};

struct Packet {
  Code code = Code::kCoaRequest;
  std::uint8_t identifier = 0;
  Authenticator authenticator{};
  std::vector<Attribute> attributes;

  // The first such attribute, or null.
  const Attribute* find(std::uint8_t type, std::uint32_t vendor = 0) const;
  // A four-octet value; absent where the attribute is missing or of another length.
  std::optional<std::uint32_t> integer(std::uint8_t type, std::uint32_t vendor = 0) const;
};

// Four octets in network order: integers, dates, IPv4 addresses.
std::string integer_value(std::uint32_t number);

struct CodecError {
  std::string message;
};

// The packet's octets up to its Length; what follows is padding and not looked at. A malformed
// Vendor-Specific attribute is kept whole, as RFC 2865 5.26 allows any string there.
std::expected<Packet, CodecError> decode(std::span<const std::uint8_t> octets);

// MD5 and HMAC-MD5, fetched from OpenSSL once. Not for two threads at once; cheap to keep, dear to
// make. Throws std::runtime_error where OpenSSL refuses MD5 (a FIPS provider).
class Signer {
 public:
  Signer();
  ~Signer();
  Signer(Signer&&) noexcept;
  Signer& operator=(Signer&&) noexcept;

  // A request whose authenticator is keyed by the secret (CoA, Disconnect; Accounting-Request
  // without Message-Authenticator): Message-Authenticator first, filled in before the header's MD5
  // is taken. Refuses what does not fit into a packet or an attribute.
  std::expected<std::vector<std::uint8_t>, CodecError> encode_request(
      Code code, std::uint8_t identifier, std::span<const Attribute> attributes,
      std::string_view secret, bool message_authenticator = true);

  // A Status-Server (RFC 5997): asks whether somebody is there. Its authenticator is random, its
  // Message-Authenticator is what the secret keys.
  std::vector<std::uint8_t> encode_status(std::uint8_t identifier, std::string_view secret);

  // The same for an answer to `request` (its first 20 octets are enough). For tests and relays.
  std::expected<std::vector<std::uint8_t>, CodecError> encode_answer(
      Code code, std::span<const std::uint8_t> request, std::span<const Attribute> attributes,
      std::string_view secret, bool message_authenticator = true);

  // True when `octets` carry the authenticator that the holder of `secret` computes for a request
  // of ours, and a right Message-Authenticator where there is one. Compared in constant time.
  bool verify_request(std::span<const std::uint8_t> octets, std::string_view secret);

  enum class Verdict { kGood, kMalformed, kOtherKind, kForged, kNoMessageAuthenticator };

  // Is this the answer to `request`: same identifier, fitting code, Response Authenticator and
  // Message-Authenticator right. Anything else is to be discarded silently.
  Verdict verify_answer(std::span<const std::uint8_t> octets, std::span<const std::uint8_t> request,
                        std::string_view secret, bool demand_message_authenticator = false);

 private:
  struct State;
  Authenticator md5(std::span<const std::uint8_t> head, const Authenticator& middle,
                    std::span<const std::uint8_t> rest, std::string_view secret);
  Authenticator hmac(std::span<const std::uint8_t> packet, const Authenticator& authenticator,
                     std::size_t own_offset, std::string_view secret);
  std::expected<std::vector<std::uint8_t>, CodecError> build(Code code, std::uint8_t identifier,
                                                             std::span<const Attribute> attributes,
                                                             bool message_authenticator);

  std::unique_ptr<State> state_;
};

}  // namespace addrflow::radius
