// How the messages of `addrflow.v1` travel: `json/plain`, snake_case, every field printed
// (docs/workflows.md). Any SDK and the Temporal CLI read and write them without our library.
#pragma once

#include <addrflow/v1/json.hpp>
#include <tempora/payload.hpp>

namespace addrflow::v1 {

// Found by argument-dependent lookup for every message of this package, and for no other type.
void is_contract_message(const google::protobuf::Message*);

// Throws `tempora::PayloadError` that names the field.
inline void decode_payload(const temporal::api::common::v1::Payload& payload,
                           google::protobuf::Message& message) {
  const auto encoding = payload.metadata().find("encoding");
  const std::string name = encoding == payload.metadata().end() ? std::string{} : encoding->second;
  if (auto read = from_wire(name, payload.data(), message); !read)
    throw tempora::PayloadError(read.error().message);
}

}  // namespace addrflow::v1

template <class T>
  requires requires(const T* message) { is_contract_message(message); }
struct tempora::PayloadCodec<T> {
  static temporal::api::common::v1::Payload encode(const T& message) {
    temporal::api::common::v1::Payload payload;
    (*payload.mutable_metadata())["encoding"] = "json/plain";
    payload.set_data(addrflow::v1::to_json_text(message));
    return payload;
  }

  // Throws `tempora::PayloadError` that names the field.
  static T decode(const temporal::api::common::v1::Payload& payload) {
    T message;
    addrflow::v1::decode_payload(payload, message);
    return message;
  }
};
