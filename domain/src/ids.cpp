#include <addrflow/domain/ids.hpp>
#include <algorithm>
#include <cstdint>

namespace addrflow::domain {
namespace {

constexpr std::string_view kHex = "0123456789ABCDEF";
constexpr std::size_t kLongestId = 64;
constexpr std::size_t kLongestKey = 128;

bool is_plain(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
         c == '_' || c == '-';
}

bool is_key_character(char c) { return is_plain(c) || c == ':'; }

void append_hex_byte(std::string& text, char c) {
  const auto byte = static_cast<unsigned char>(c);
  text += kHex[byte >> 4];
  text += kHex[byte & 15];
}

std::expected<void, FieldError> check_text(std::string_view field, std::string_view value,
                                           std::size_t longest, bool (*legal)(char),
                                           std::string_view rule) {
  const std::string name{field};
  if (value.empty()) return std::unexpected(FieldError{name, name + " is required"});
  if (value.size() > longest || !std::ranges::all_of(value, legal)) {
    return std::unexpected(FieldError{name, name + " must match " + std::string{rule}});
  }
  return {};
}

// FNV-1a, only to tell apart long names whose beginnings agree.
std::string checksum(std::string_view text) {
  std::uint64_t hash = 14695981039346656037ULL;
  for (const char c : text) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 1099511628211ULL;
  }
  std::string result;
  for (int shift = 60; shift >= 0; shift -= 4) result += kHex[(hash >> shift) & 15];
  return result;
}

std::string shortened_key(std::string key) {
  if (key.size() <= kLongestKey) return key;
  const std::string sum = checksum(key);
  key.resize(kLongestKey - sum.size() - 1);
  return key + ":" + sum;
}

}  // namespace

bool is_printable(std::string_view text) {
  return std::ranges::none_of(
      text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

std::expected<void, FieldError> check_id(std::string_view field, std::string_view value) {
  return check_text(field, value, kLongestId, is_plain, "[A-Za-z0-9._-]{1,64}");
}

std::expected<void, FieldError> check_key(std::string_view field, std::string_view value) {
  return check_text(field, value, kLongestKey, is_key_character, "[A-Za-z0-9._:-]{1,128}");
}

std::expected<void, FieldError> check_service(const ServiceId& id) {
  if (auto checked = check_id("tenant_id", id.tenant); !checked) return checked;
  if (auto checked = check_id("subscriber_id", id.subscriber); !checked) return checked;
  return check_id("service", id.service);
}

std::string username_of(std::string_view username, std::string_view subscriber) {
  return std::string{username.empty() ? subscriber : username};
}

std::string escape_part(std::string_view part) {
  std::string text;
  text.reserve(part.size());
  for (const char c : part) {
    if (is_plain(c)) {
      text += c;
    } else {
      text += '%';
      append_hex_byte(text, c);
    }
  }
  return text;
}

std::optional<std::string> unescape_part(std::string_view part) {
  std::string text;
  for (std::size_t i = 0; i < part.size(); ++i) {
    if (is_plain(part[i])) {
      text += part[i];
      continue;
    }
    if (part[i] != '%' || i + 2 >= part.size()) return std::nullopt;
    const std::size_t high = kHex.find(part[i + 1]);
    const std::size_t low = kHex.find(part[i + 2]);
    if (high == std::string_view::npos || low == std::string_view::npos) return std::nullopt;
    text += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return text;
}

std::string service_workflow_id(const ServiceId& id) {
  return "service/" + escape_part(id.tenant) + "/" + escape_part(id.subscriber) + "/" +
         escape_part(id.service);
}

std::optional<ServiceId> parse_service_workflow_id(std::string_view workflow_id) {
  constexpr std::string_view kPrefix = "service/";
  if (!workflow_id.starts_with(kPrefix)) return std::nullopt;
  workflow_id.remove_prefix(kPrefix.size());
  const std::size_t first = workflow_id.find('/');
  if (first == std::string_view::npos) return std::nullopt;
  const std::size_t second = workflow_id.find('/', first + 1);
  if (second == std::string_view::npos) return std::nullopt;
  auto tenant = unescape_part(workflow_id.substr(0, first));
  auto subscriber = unescape_part(workflow_id.substr(first + 1, second - first - 1));
  auto service = unescape_part(workflow_id.substr(second + 1));
  if (!tenant || !subscriber || !service) return std::nullopt;
  return ServiceId{*std::move(tenant), *std::move(subscriber), *std::move(service)};
}

std::string update_id(Operation operation, std::string_view key) {
  return std::string{to_string(operation)} + ":" + std::string{key};
}

std::string key_of_update_id(Operation operation, std::string_view update_id) {
  const std::string prefix = std::string{to_string(operation)} + ":";
  if (update_id.size() > prefix.size() && update_id.starts_with(prefix))
    update_id.remove_prefix(prefix.size());
  return key_from(update_id);
}

std::string key_from(std::string_view name) {
  if (check_key("", name)) return std::string{name};
  std::string key;
  for (const char c : name) {
    if (is_plain(c)) {
      key += c;
    } else {
      key += ':';
      append_hex_byte(key, c);
    }
  }
  return shortened_key(std::move(key));
}

std::string step_key(std::string_view composition_key, std::string_view step) {
  return shortened_key(std::string{composition_key} + ":" + std::string{step});
}

std::string run_step_key(std::string_view workflow_id, std::string_view first_execution_run_id,
                         std::string_view step) {
  return key_from(std::string{workflow_id} + ":" + std::string{first_execution_run_id} + ":" +
                  std::string{step});
}

}  // namespace addrflow::domain
