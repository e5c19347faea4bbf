#include "addrflow/netbox/error.hpp"

#include <fmt/format.h>

#include <charconv>

namespace addrflow::netbox {
namespace {

constexpr std::size_t kMaxMessageLength = 300;

// The texts that NetBox puts into a refusal, each with its field. Shapes: {"field": [..]},
// {"__all__": [..]}, {"custom_fields": {name: text}}, {"detail": text}, and a list of such.
std::string flatten(const nlohmann::json& body) {
  if (body.is_string()) return body.get<std::string>();
  std::string text;
  const auto append = [&text](std::string part) {
    if (part.empty()) return;
    if (!text.empty()) text += "; ";
    text += part;
  };
  if (body.is_array()) {
    for (const auto& item : body) append(flatten(item));
  } else if (body.is_object()) {
    for (const auto& [name, value] : body.items()) {
      const bool unnamed = name == "__all__" || name == "detail";
      append(unnamed ? flatten(value) : name + ": " + flatten(value));
    }
  }
  return text;
}

std::chrono::milliseconds retry_after_of(const HttpResponse& response) {
  const auto found = response.headers.find("retry-after");
  if (found == response.headers.end()) return {};
  int seconds = 0;
  const std::string& text = found->second;
  std::from_chars(text.data(), text.data() + text.size(), seconds);
  return std::chrono::seconds{seconds};
}

ErrorKind kind_of_400(const std::string& message) {
  if (message.contains("Duplicate IP address found")) return ErrorKind::kAddressTaken;
  if (message.contains("Duplicate prefix found")) return ErrorKind::kAddressTaken;
  if (message.contains("'idempotency_key' must have a unique value")) return ErrorKind::kKeyTaken;
  return ErrorKind::kInvalid;
}

ErrorKind kind_of(int status, bool is_json, const std::string& message) {
  if (status >= 500) return ErrorKind::kServer;
  if (status == 429) return ErrorKind::kThrottled;
  if (!is_json || status < 400) return ErrorKind::kNotNetbox;
  switch (status) {
    case 400: return kind_of_400(message);
    case 401:
    case 403: return ErrorKind::kDenied;
    case 404: return ErrorKind::kNotFound;
    case 409:
      return message.starts_with("Insufficient resources") ? ErrorKind::kExhausted
                                                           : ErrorKind::kConflict;
    case 412: return ErrorKind::kChanged;
    default: return ErrorKind::kInvalid;
  }
}

}  // namespace

std::string_view code_of(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kConfiguration: return "netbox-configuration";
    case ErrorKind::kInvalid: return "netbox-invalid";
    case ErrorKind::kAddressTaken: return "netbox-address-taken";
    case ErrorKind::kKeyTaken: return "netbox-key-taken";
    case ErrorKind::kDenied: return "netbox-denied";
    case ErrorKind::kNotFound: return "netbox-not-found";
    case ErrorKind::kExhausted: return "netbox-exhausted";
    case ErrorKind::kConflict: return "netbox-conflict";
    case ErrorKind::kChanged: return "netbox-changed";
    case ErrorKind::kThrottled: return "netbox-throttled";
    case ErrorKind::kServer: return "netbox-server-error";
    case ErrorKind::kUnreachable: return "netbox-unreachable";
    case ErrorKind::kResting: return "netbox-resting";
    case ErrorKind::kNoAnswer: return "netbox-no-answer";
    case ErrorKind::kNotNetbox: return "netbox-unexpected-answer";
  }
  return "netbox-error";
}

Result<nlohmann::json> classify(const HttpResponse& response, bool wrote) {
  const auto type = response.headers.find("content-type");
  const bool says_json =
      type != response.headers.end() && type->second.starts_with("application/json");
  auto body = says_json ? nlohmann::json::parse(response.body, nullptr, false) : nlohmann::json{};
  const bool is_json = says_json && !body.is_discarded();
  const bool success = response.status >= 200 && response.status < 300;
  if (success && (is_json || response.status == 204)) return body;

  Error error{.status = response.status, .retry_after = retry_after_of(response)};
  // 5xx bodies name hosts and ports of the inside; the status says enough.
  const std::string said = is_json && response.status < 500 ? flatten(body) : std::string{};
  error.kind = kind_of(response.status, is_json, said);
  error.message = fmt::format("NetBox answered {}{}{}", response.status, said.empty() ? "" : ": ",
                              said.substr(0, kMaxMessageLength));
  error.retryable = error.kind == ErrorKind::kServer || error.kind == ErrorKind::kThrottled ||
                    error.kind == ErrorKind::kChanged;
  // A success that cannot be read was a success all the same.
  error.in_doubt = wrote && (error.kind == ErrorKind::kServer || success);
  if (success) error.retryable = true;
  return std::unexpected(std::move(error));
}

Error classify(const HttpFailure& failure, bool wrote) {
  Error error{.message = "no answer from NetBox: " + failure.message, .retryable = true};
  error.kind = failure.sent ? ErrorKind::kNoAnswer : ErrorKind::kUnreachable;
  error.in_doubt = failure.sent && wrote;
  return error;
}

}  // namespace addrflow::netbox
