#include "token.hpp"

#include <cstdint>
#include <nlohmann/json.hpp>

namespace tempora::nexus {

namespace {

constexpr int kWorkflow = 1;  // the kind of token
constexpr std::string_view kDigits =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

// Base 64 for URLs, without padding.
std::string encode(std::string_view bytes) {
  std::string text;
  std::uint32_t bits = 0;
  int count = 0;
  for (const char byte : bytes) {
    bits = bits << 8U | static_cast<unsigned char>(byte);
    for (count += 8; count >= 6; count -= 6) text += kDigits[bits >> (count - 6) & 63U];
  }
  if (count > 0) text += kDigits[bits << (6 - count) & 63U];
  return text;
}

std::optional<std::string> decode(std::string_view text) {
  std::string bytes;
  std::uint32_t bits = 0;
  int count = 0;
  for (const char digit : text) {
    const std::size_t value = kDigits.find(digit);
    if (value == std::string_view::npos) return std::nullopt;
    bits = bits << 6U | static_cast<std::uint32_t>(value);
    count += 6;
    if (count < 8) continue;
    count -= 8;
    bytes += static_cast<char>(bits >> count & 255U);
  }
  return bytes;
}

}  // namespace

std::string to_text(const WorkflowToken& token) {
  return encode(
      nlohmann::json{{"t", kWorkflow}, {"ns", token.namespace_}, {"wid", token.workflow_id}}
          .dump());
}

std::optional<WorkflowToken> read_token(std::string_view text) {
  const auto bytes = decode(text);
  if (!bytes) return std::nullopt;
  const auto json = nlohmann::json::parse(*bytes, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return std::nullopt;
  try {
    // A version that is told is one that we do not know.
    if (json.at("t") != kWorkflow || json.value("v", 0) != 0) return std::nullopt;
    WorkflowToken token{json.at("ns"), json.at("wid")};
    if (token.workflow_id.empty()) return std::nullopt;
    return token;
  } catch (const nlohmann::json::exception&) {
    return std::nullopt;
  }
}

}  // namespace tempora::nexus
