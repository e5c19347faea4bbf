#include <fmt/format.h>
#include <google/protobuf/util/json_util.h>

#include <cmath>
#include <tempora/payload.hpp>

#include "converter/json_depth.hpp"

namespace tempora::detail {
namespace {

constexpr const char* kEncoding = "encoding";
constexpr const char* kMessageType = "messageType";

}  // namespace

bool is_still_encoded(const Payload& payload) {
  const std::string_view encoding = encoding_of(payload);
  return encoding != "binary/null" && encoding != "binary/plain" && encoding != "binary/protobuf" &&
         encoding != "json/plain" && encoding != "json/protobuf" && !encoding.empty();
}

void throw_undecodable(std::string_view wanted, std::string_view why) {
  throw PayloadError(fmt::format("cannot read {}: {}", wanted, why));
}

std::string_view encoding_of(const Payload& payload) {
  const auto found = payload.metadata().find(kEncoding);
  return found == payload.metadata().end() ? std::string_view{} : std::string_view{found->second};
}

Payload null_payload() {
  Payload payload;
  (*payload.mutable_metadata())[kEncoding] = "binary/null";
  return payload;
}

Payload bytes_payload(const void* data, std::size_t size) {
  Payload payload;
  (*payload.mutable_metadata())[kEncoding] = "binary/plain";
  payload.set_data(data, size);
  return payload;
}

Payload message_payload(const google::protobuf::Message& message) {
  Payload payload;
  (*payload.mutable_metadata())[kEncoding] = "json/protobuf";
  (*payload.mutable_metadata())[kMessageType] = message.GetDescriptor()->full_name();
  const auto status = google::protobuf::util::MessageToJsonString(message, payload.mutable_data());
  if (!status.ok()) {
    throw PayloadError(fmt::format("cannot write {}: {}", message.GetDescriptor()->full_name(),
                                   status.ToString()));
  }
  return payload;
}

Payload json_payload(std::string text) {
  Payload payload;
  (*payload.mutable_metadata())[kEncoding] = "json/plain";
  payload.set_data(std::move(text));
  return payload;
}

void decode_message(const Payload& payload, google::protobuf::Message& message) {
  const std::string_view encoding = encoding_of(payload);
  const std::string& name = message.GetDescriptor()->full_name();
  if (encoding == "binary/null") return;
  if (encoding == "json/protobuf" || encoding == "json/plain") {
    google::protobuf::util::JsonParseOptions options;
    options.ignore_unknown_fields =
        encoding == "json/protobuf";  // an older reader of a newer writer
    const auto status =
        google::protobuf::util::JsonStringToMessage(payload.data(), &message, options);
    if (!status.ok()) throw_undecodable(name, status.ToString());
    return;
  }
  if (encoding == "binary/protobuf") {
    const auto type = payload.metadata().find(kMessageType);
    if (type != payload.metadata().end() && type->second != name) {
      throw_undecodable(name, fmt::format("the payload holds a {}", type->second));
    }
    if (!message.ParseFromString(payload.data())) throw_undecodable(name, "ill-formed bytes");
    return;
  }
  throw_undecodable(name, fmt::format("its encoding is \"{}\"", encoding));
}

nlohmann::json decode_json(const Payload& payload) {
  const std::string_view encoding = encoding_of(payload);
  if (encoding == "binary/null") return nullptr;
  if (encoding == "json/external-storage-reference") {
    throw_undecodable(
        "json/plain",
        "[TMPRL1105] the payload is kept in external storage, which is not supported");
  }
  if (encoding != "json/plain")
    throw_undecodable("json/plain", fmt::format("its encoding is \"{}\"", encoding));
  if (nests_too_deeply(payload.data()))
    throw_undecodable("json/plain", fmt::format("it nests deeper than {} levels", kDeepestJson));
  nlohmann::json json = nlohmann::json::parse(payload.data(), nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) throw_undecodable("json/plain", "ill-formed JSON");
  return json;
}

void check_whole_number(const nlohmann::json& json, std::int64_t least, std::uint64_t most) {
  bool fits = true;
  if (json.is_number_unsigned()) {
    fits = json.get<std::uint64_t>() <= most;
  } else if (json.is_number_integer()) {
    const auto number = json.get<std::int64_t>();
    fits = number >= least && (number < 0 || static_cast<std::uint64_t>(number) <= most);
  } else if (json.is_number_float()) {  // "1e3"; also what is too long for 64 bits
    const auto number = json.get<double>();
    fits = number == std::trunc(number) && number >= static_cast<double>(least) &&
           number < static_cast<double>(most) + 1;
  }
  if (!fits) {
    throw_undecodable("json/plain",
                      fmt::format("{} is no whole number from {} to {}", json.dump(), least, most));
  }
}

std::string_view decode_bytes(const Payload& payload) {
  const std::string_view encoding = encoding_of(payload);
  if (encoding == "binary/null") return {};
  if (encoding != "binary/plain")
    throw_undecodable("binary/plain", fmt::format("its encoding is \"{}\"", encoding));
  return payload.data();
}

}  // namespace tempora::detail
