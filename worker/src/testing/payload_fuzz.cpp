// libFuzzer on what payloads are turned into (`./dev fuzz payload`): every type, every encoding,
// any bytes. The only way out besides a value is `PayloadError`.
#include <array>
#include <cstdint>
#include <tempora/failure.hpp>
#include <tempora/payload.hpp>
#include <tempora/search_attributes.hpp>

namespace {

using namespace tempora;

template <class T>
void decode(const Payload& payload) {
  try {
    const T value = PayloadCodec<T>::decode(payload);
    PayloadCodec<T>::encode(value);
  } catch (const PayloadError& error) {
    if (error.what()[0] == '\0') std::abort();
  }
}

void decode_failure(const std::string& bytes) {
  FailureProto proto;
  if (!proto.ParseFromString(bytes)) return;
  const auto failure = to_failure(proto);
  failure->proto();
  find_application_error(*failure);
}

void decode_attributes(const std::string& bytes) {
  temporal::api::common::v1::SearchAttributes proto;
  if (!proto.ParseFromString(bytes)) return;
  try {
    const SearchAttributes attributes{proto};
    attributes.write(&proto);
  } catch (const PayloadError&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  static constexpr std::array kEncodings{"json/plain",
                                         "json/protobuf",
                                         "binary/protobuf",
                                         "binary/plain",
                                         "binary/null",
                                         "unheard/of",
                                         "json/external-storage-reference"};
  Payload payload;
  (*payload.mutable_metadata())["encoding"] = kEncodings[data[0] % kEncodings.size()];
  payload.set_data(data + 2, size - 2);
  switch (data[1] % 12) {
    case 0: decode<int>(payload); break;
    case 1: decode<std::string>(payload); break;
    case 2: decode<std::vector<std::string>>(payload); break;
    case 3: decode<nlohmann::json>(payload); break;
    case 4: decode<std::vector<std::byte>>(payload); break;
    case 5: decode<std::optional<double>>(payload); break;
    case 6: decode<FailureProto>(payload); break;
    case 7: decode<std::map<std::string, std::vector<int>>>(payload); break;
    case 8: decode<std::pair<bool, std::uint8_t>>(payload); break;
    case 9: decode<Payloads>(payload); break;
    case 10: decode_failure(payload.data()); break;
    default: decode_attributes(payload.data());
  }
  return 0;
}
