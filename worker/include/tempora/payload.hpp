// How values become payloads and back. `PayloadCodec<T>` is the customisation point: specialise it
// for a type of your own.
#pragma once

#include <google/protobuf/message.h>
#include <temporal/api/common/v1/message.pb.h>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <ranges>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace tempora {

using Payload = temporal::api::common::v1::Payload;
using Payloads = temporal::api::common::v1::Payloads;

// Thrown when a payload does not hold what is asked for; the text names the field or the encoding.
struct PayloadError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// No value: for activities and workflows without input or output.
struct Void {
  bool operator==(const Void&) const = default;
};

// A payload that is passed on as it is.
struct RawPayload {
  Payload payload;
};

namespace detail {

std::string_view encoding_of(const Payload& payload);
Payload null_payload();
Payload bytes_payload(const void* data, std::size_t size);
Payload message_payload(const google::protobuf::Message& message);
Payload json_payload(std::string text);
void decode_message(const Payload& payload, google::protobuf::Message& message);
// The JSON value of a `json/plain` payload. Throws `PayloadError` for any other encoding and for
// ill-formed text.
nlohmann::json decode_json(const Payload& payload);
// The bytes of a `binary/plain` payload.
std::string_view decode_bytes(const Payload& payload);
// A codec that is not at hand made it: the value is there, but not for us now.
bool is_still_encoded(const Payload& payload);
[[noreturn]] void throw_undecodable(std::string_view wanted, std::string_view why);

template <class T>
inline constexpr bool kIsOptional = false;
template <class T>
inline constexpr bool kIsOptional<std::optional<T>> = true;

// Throws `PayloadError` for a number that is not a whole one from `least` to `most`.
void check_whole_number(const nlohmann::json& json, std::int64_t least, std::uint64_t most);

// Throws `PayloadError` for a number that its place in `T` cannot hold; nlohmann::json would cut it
// off. What it makes of types of your own is left to it.
template <class T>
void check_numbers(const nlohmann::json& json) {
  if constexpr (std::same_as<T, bool> || std::same_as<T, nlohmann::json>) {
    return;
  } else if constexpr (std::integral<T>) {
    using Limits = std::numeric_limits<T>;
    check_whole_number(json, static_cast<std::int64_t>(Limits::min()),
                       static_cast<std::uint64_t>(Limits::max()));
  } else if constexpr (requires { typename T::mapped_type; }) {
    if (!json.is_object()) return;
    for (const nlohmann::json& each : json) check_numbers<typename T::mapped_type>(each);
  } else if constexpr (std::ranges::range<T>) {
    if (!json.is_array()) return;
    for (const nlohmann::json& each : json) check_numbers<std::ranges::range_value_t<T>>(each);
  } else if constexpr (requires { std::tuple_size<T>::value; }) {
    if (!json.is_array() || json.size() < std::tuple_size_v<T>) return;
    [&]<std::size_t... kIndex>(std::index_sequence<kIndex...>) {
      (check_numbers<std::remove_cvref_t<std::tuple_element_t<kIndex, T>>>(json[kIndex]), ...);
    }(std::make_index_sequence<std::tuple_size_v<T>>{});
  }
}

}  // namespace detail

// Chosen by type: `Void` and empty `optional` → `binary/null`; `std::vector<std::byte>` →
// `binary/plain`; Protobuf messages → `json/protobuf` (`binary/protobuf` and `json/plain` are read
// too); everything that nlohmann::json can convert → `json/plain`. A number that does not fit into
// an integer is a `PayloadError`, alone and in the standard library's containers.
template <class T>
struct PayloadCodec {
  static Payload encode(const T& value) {
    if constexpr (std::same_as<T, Void> || std::same_as<T, std::nullptr_t>) {
      return detail::null_payload();
    } else if constexpr (std::same_as<T, RawPayload>) {
      return value.payload;
    } else if constexpr (std::same_as<T, Payload>) {
      return value;
    } else if constexpr (std::same_as<T, std::vector<std::byte>>) {
      return detail::bytes_payload(value.data(), value.size());
    } else if constexpr (std::derived_from<T, google::protobuf::Message>) {
      return detail::message_payload(value);
    } else if constexpr (detail::kIsOptional<T>) {
      if (!value) return detail::null_payload();
      return PayloadCodec<typename T::value_type>::encode(*value);
    } else {
      return detail::json_payload(nlohmann::json(value).dump());
    }
  }

  static T decode(const Payload& payload) {
    if constexpr (std::same_as<T, Void> || std::same_as<T, std::nullptr_t>) {
      return T{};  // whatever the peer returned, nobody looks at it
    } else if constexpr (std::same_as<T, RawPayload>) {
      return RawPayload{payload};
    } else if constexpr (std::same_as<T, Payload>) {
      return payload;
    } else if constexpr (std::same_as<T, std::vector<std::byte>>) {
      const std::string_view bytes = detail::decode_bytes(payload);
      const auto* first = reinterpret_cast<const std::byte*>(bytes.data());
      return T(first, first + bytes.size());
    } else if constexpr (std::derived_from<T, google::protobuf::Message>) {
      T message;
      detail::decode_message(payload, message);
      return message;
    } else if constexpr (detail::kIsOptional<T>) {
      if (detail::encoding_of(payload) == "binary/null") return std::nullopt;
      return T{PayloadCodec<typename T::value_type>::decode(payload)};
    } else {
      const nlohmann::json json = detail::decode_json(payload);
      detail::check_numbers<T>(json);
      try {
        return json.get<T>();
      } catch (const nlohmann::json::exception& error) {
        detail::throw_undecodable("json/plain", error.what());
      }
    }
  }
};

template <>
struct PayloadCodec<void> {
  static Payload encode() { return detail::null_payload(); }
  static void decode(const Payload&) {}
};

template <class... A>
Payloads encode_all(const A&... arguments) {
  Payloads payloads;
  ((*payloads.add_payloads() = PayloadCodec<A>::encode(arguments)), ...);
  return payloads;
}

// The argument at `index`. A missing trailing argument is a default value; without one,
// `PayloadError`.
template <class T>
T decode_argument(const Payloads& payloads, int index = 0) {
  if (index < payloads.payloads_size()) return PayloadCodec<T>::decode(payloads.payloads(index));
  if constexpr (std::default_initializable<T>) {
    return T{};
  } else {
    detail::throw_undecodable("an argument", "it is missing");
  }
}

}  // namespace tempora
