#include <google/protobuf/descriptor.h>
#include <addrflow/v1/json.hpp>

#include <cmath>
#include <limits>

namespace addrflow::v1 {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using nlohmann::json;
using nlohmann::ordered_json;
using Result = std::expected<void, JsonError>;

// --- writing
// -----------------------------------------------------------------------------------------------------

template <class Json>
Json write_message(const Message& message);

template <class Json>
Json write_single(const Message& message, const FieldDescriptor* field) {
  const Reflection* reflection = message.GetReflection();
  if (field->has_presence() && !reflection->HasField(message, field)) return nullptr;
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32: return reflection->GetInt32(message, field);
    case FieldDescriptor::CPPTYPE_INT64: return reflection->GetInt64(message, field);
    case FieldDescriptor::CPPTYPE_UINT32: return reflection->GetUInt32(message, field);
    case FieldDescriptor::CPPTYPE_UINT64: return reflection->GetUInt64(message, field);
    case FieldDescriptor::CPPTYPE_DOUBLE: return reflection->GetDouble(message, field);
    case FieldDescriptor::CPPTYPE_FLOAT: return reflection->GetFloat(message, field);
    case FieldDescriptor::CPPTYPE_BOOL: return reflection->GetBool(message, field);
    case FieldDescriptor::CPPTYPE_STRING: return reflection->GetString(message, field);
    case FieldDescriptor::CPPTYPE_ENUM: return reflection->GetEnum(message, field)->name();
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return write_message<Json>(reflection->GetMessage(message, field));
  }
  return nullptr;
}

// The contract uses lists of strings and of messages only; a golden test meets every field there
// is.
template <class Json>
Json write_list(const Message& message, const FieldDescriptor* field) {
  const Reflection* reflection = message.GetReflection();
  Json list = Json::array();
  for (int i = 0; i < reflection->FieldSize(message, field); ++i) {
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      list.push_back(write_message<Json>(reflection->GetRepeatedMessage(message, field, i)));
    } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
      list.push_back(reflection->GetRepeatedString(message, field, i));
    } else {
      throw std::logic_error("list type not supported: " + field->full_name());
    }
  }
  return list;
}

// Sorted by key, so that the same map is always the same text.
template <class Json>
Json write_map(const Message& message, const FieldDescriptor* field) {
  const Reflection* reflection = message.GetReflection();
  const FieldDescriptor* key = field->message_type()->map_key();
  const FieldDescriptor* value = field->message_type()->map_value();
  std::map<std::string, Json> sorted;
  for (int i = 0; i < reflection->FieldSize(message, field); ++i) {
    const Message& entry = reflection->GetRepeatedMessage(message, field, i);
    sorted[entry.GetReflection()->GetString(entry, key)] = write_single<Json>(entry, value);
  }
  Json object = Json::object();
  for (auto& [name, content] : sorted) object[name] = std::move(content);
  return object;
}

template <class Json>
Json write_message(const Message& message) {
  Json object = Json::object();
  const Descriptor* descriptor = message.GetDescriptor();
  for (int i = 0; i < descriptor->field_count(); ++i) {
    const FieldDescriptor* field = descriptor->field(i);
    if (field->is_map()) {
      object[field->name()] = write_map<Json>(message, field);
    } else if (field->is_repeated()) {
      object[field->name()] = write_list<Json>(message, field);
    } else {
      object[field->name()] = write_single<Json>(message, field);
    }
  }
  return object;
}

// Text from elsewhere (a NAS, NetBox) may not be UTF-8: what cannot be written is replaced, never a
// reason to fail.
std::string dump(const ordered_json& object, int indent) {
  return object.dump(indent, ' ', false, ordered_json::error_handler_t::replace);
}

// --- reading
// -----------------------------------------------------------------------------------------------------

// How generous the reader is: protobuf's own JSON has camelCase names and 64-bit integers as
// strings.
enum class Dialect { kPlain, kProtobuf };

std::unexpected<JsonError> refuse(const std::string& path, const std::string& why) {
  return std::unexpected(JsonError{path, path.empty() ? why : path + ": " + why});
}

std::unexpected<JsonError> wrong_type(const std::string& path, std::string_view wanted,
                                      const json& found) {
  return refuse(path, "must be " + std::string{wanted} + ", not " + found.type_name());
}

std::string join(const std::string& path, const std::string& name) {
  return path.empty() ? name : path + "." + name;
}

class Reader {
 public:
  explicit Reader(Dialect dialect) : dialect_(dialect) {}

  Result read_message(const json& object, Message& message, const std::string& path) const {
    if (!object.is_object()) return wrong_type(path, "an object", object);
    for (const auto& [name, value] : object.items()) {
      const FieldDescriptor* field = find_field(message.GetDescriptor(), name);
      if (field == nullptr) return refuse(join(path, name), "unknown field");
      if (value.is_null()) continue;
      if (auto read = read_field(value, message, field, join(path, name)); !read) return read;
    }
    return {};
  }

 private:
  const FieldDescriptor* find_field(const Descriptor* descriptor, const std::string& name) const {
    if (const FieldDescriptor* field = descriptor->FindFieldByName(name)) return field;
    return dialect_ == Dialect::kProtobuf ? descriptor->FindFieldByCamelcaseName(name) : nullptr;
  }

  Result read_field(const json& value, Message& message, const FieldDescriptor* field,
                    const std::string& path) const {
    if (field->is_map()) return read_map(value, message, field, path);
    if (field->is_repeated()) return read_list(value, message, field, path);
    return read_single(value, message, field, path);
  }

  Result read_list(const json& value, Message& message, const FieldDescriptor* field,
                   const std::string& path) const {
    if (!value.is_array()) return wrong_type(path, "a list", value);
    const Reflection* reflection = message.GetReflection();
    for (std::size_t i = 0; i < value.size(); ++i) {
      const std::string item_path = path + "[" + std::to_string(i) + "]";
      if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
        if (auto read = read_message(value[i], *reflection->AddMessage(&message, field), item_path);
            !read)
          return read;
      } else if (!value[i].is_string()) {
        return wrong_type(item_path, "a string", value[i]);
      } else {
        reflection->AddString(&message, field, value[i].get<std::string>());
      }
    }
    return {};
  }

  Result read_map(const json& value, Message& message, const FieldDescriptor* field,
                  const std::string& path) const {
    if (!value.is_object()) return wrong_type(path, "an object", value);
    for (const auto& [name, content] : value.items()) {
      Message* entry = message.GetReflection()->AddMessage(&message, field);
      entry->GetReflection()->SetString(entry, field->message_type()->map_key(), name);
      if (auto read =
              read_single(content, *entry, field->message_type()->map_value(), join(path, name));
          !read) {
        return read;
      }
    }
    return {};
  }

  Result read_single(const json& value, Message& message, const FieldDescriptor* field,
                     const std::string& path) const {
    const Reflection* reflection = message.GetReflection();
    switch (field->cpp_type()) {
      case FieldDescriptor::CPPTYPE_MESSAGE:
        return read_message(value, *reflection->MutableMessage(&message, field), path);
      case FieldDescriptor::CPPTYPE_STRING:
        if (!value.is_string()) return wrong_type(path, "a string", value);
        reflection->SetString(&message, field, value.get<std::string>());
        return {};
      case FieldDescriptor::CPPTYPE_BOOL:
        if (!value.is_boolean()) return wrong_type(path, "true or false", value);
        reflection->SetBool(&message, field, value.get<bool>());
        return {};
      case FieldDescriptor::CPPTYPE_INT32:
      case FieldDescriptor::CPPTYPE_INT64: return read_integer(value, message, field, path);
      default: return refuse(path, "this kind of field cannot be read");
    }
  }

  Result read_integer(const json& value, Message& message, const FieldDescriptor* field,
                      const std::string& path) const {
    const bool narrow = field->cpp_type() == FieldDescriptor::CPPTYPE_INT32;
    const auto number = integer(value);
    if (!number) return wrong_type(path, "an integer", value);
    if (narrow && (*number > std::numeric_limits<std::int32_t>::max() ||
                   *number < std::numeric_limits<std::int32_t>::min())) {
      return refuse(path, "is out of range");
    }
    if (narrow) {
      message.GetReflection()->SetInt32(&message, field, static_cast<std::int32_t>(*number));
    } else {
      message.GetReflection()->SetInt64(&message, field, *number);
    }
    return {};
  }

  std::optional<std::int64_t> integer(const json& value) const {
    if (value.is_number_unsigned()) {
      const auto number = value.get<std::uint64_t>();
      if (number > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
        return std::nullopt;
      return static_cast<std::int64_t>(number);
    }
    if (value.is_number_integer()) return value.get<std::int64_t>();
    if (dialect_ == Dialect::kProtobuf && value.is_string()) {
      const json inner = json::parse(value.get<std::string>(), nullptr, false);
      if (inner.is_number_integer()) return integer(inner);
    }
    return std::nullopt;
  }

  Dialect dialect_;
};

Result read_text(std::string_view text, Message& message, Dialect dialect) {
  const json document = json::parse(text, nullptr, false);
  if (document.is_discarded()) return refuse("", "not a JSON document");
  message.Clear();
  if (document.is_null()) return {};
  return Reader{dialect}.read_message(document, message, "");
}

}  // namespace

json to_json(const Message& message) { return write_message<json>(message); }

std::string to_json_text(const Message& message) {
  return dump(write_message<ordered_json>(message), -1);
}

std::string to_json_pretty(const Message& message) {
  return dump(write_message<ordered_json>(message), 2) + "\n";
}

Result from_json(const json& document, Message& message) {
  message.Clear();
  return Reader{Dialect::kPlain}.read_message(document, message, "");
}

Result from_json_text(std::string_view text, Message& message) {
  return read_text(text, message, Dialect::kPlain);
}

Result from_wire(std::string_view encoding, std::string_view data, Message& message) {
  if (encoding == "json/plain") return read_text(data, message, Dialect::kPlain);
  if (encoding == "json/protobuf") return read_text(data, message, Dialect::kProtobuf);
  message.Clear();
  if (encoding == "binary/null") return {};
  if (encoding != "binary/protobuf") {
    return refuse("",
                  "encoding \"" + std::string{encoding} + "\" is not understood: send json/plain");
  }
  if (!message.ParseFromArray(data.data(), static_cast<int>(data.size()))) {
    return refuse("", "not a " + message.GetDescriptor()->full_name());
  }
  return {};
}

}  // namespace addrflow::v1
