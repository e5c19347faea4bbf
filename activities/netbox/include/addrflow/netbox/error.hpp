// What NetBox's refusals mean. Learned from recorded exchanges (tests/netbox/contract).
#pragma once

#include <addrflow/netbox/http.hpp>
#include <chrono>
#include <expected>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace addrflow::netbox {

enum class ErrorKind {
  kConfiguration,  // no usable URL or token here; nothing was sent
  kInvalid,        // 400 and the like: the request will never be accepted as it is
  kAddressTaken,   // 400: another object has this address or prefix in its VRF or global table
  kKeyTaken,       // 400: an object with this idempotency key exists
  kDenied,         // 403: token or permission; NetBox never answers 401
  kNotFound,       // 404 of an object
  kExhausted,      // 409: the pool has no room left
  kConflict,       // 409: dependent objects
  kChanged,        // 412: somebody changed the object since it was read
  kThrottled,      // 429: a proxy's; nothing was done
  kServer,         // 5xx: database, Redis or proxy
  kUnreachable,    // no connection: nothing was sent
  kResting,        // the breaker is open: NetBox failed repeatedly, so nothing was sent
  kNoAnswer,       // sent, and no whole answer came: time-out or broken connection
  kNotNetbox,      // an answer that NetBox would not give here (HTML, a redirect, no JSON)
};

struct Error {
  ErrorKind kind = ErrorKind::kInvalid;
  std::string message;     // names the field where NetBox does
  int status = 0;          // of HTTP, 0 where there was none
  bool retryable = false;  // the same may succeed later
  bool in_doubt = false;   // a write may have been applied: look up before it is repeated
  std::chrono::milliseconds retry_after{0};
};

template <class T>
using Result = std::expected<T, Error>;

// "netbox-address-taken" …: goes into an effect's row and to the user.
std::string_view code_of(ErrorKind kind);

// The answer's JSON (null for 204), or what its refusal means. `wrote`: the request was a write, so
// an answer of 5xx leaves its outcome in doubt.
Result<nlohmann::json> classify(const HttpResponse& response, bool wrote);
Error classify(const HttpFailure& failure, bool wrote);

}  // namespace addrflow::netbox
