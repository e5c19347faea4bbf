// How a message of `addrflow.v1` is written as JSON, and read back strictly (docs/workflows.md).
//
// snake_case names in the order of the .proto; zeros and empty fields are printed; an unset
// `optional` field or message is null; integers are numbers; a map is an object. Reading takes null
// for "not given", and refuses an unknown field, a wrong type or a number out of range with the
// field's path.
#pragma once

#include <google/protobuf/message.h>

#include <expected>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace addrflow::v1 {

struct JsonError {
  std::string path;     // "service.tenant_id", "effects[2].status"; empty: the document itself
  std::string message;  // begins with the path
};

nlohmann::json to_json(const google::protobuf::Message& message);
std::string to_json_text(const google::protobuf::Message& message);
// Indented, for people and files.
std::string to_json_pretty(const google::protobuf::Message& message);

// `message` is overwritten. On an error it is left half filled: do not use it.
std::expected<void, JsonError> from_json(const nlohmann::json& json,
                                         google::protobuf::Message& message);
std::expected<void, JsonError> from_json_text(std::string_view text,
                                              google::protobuf::Message& message);

// Reads a payload's data: `json/plain` as above; `json/protobuf`, where camelCase names and
// integers as strings are taken too; `binary/protobuf`; `binary/null` is an empty message. Another
// encoding is an error.
std::expected<void, JsonError> from_wire(std::string_view encoding, std::string_view data,
                                         google::protobuf::Message& message);

}  // namespace addrflow::v1
