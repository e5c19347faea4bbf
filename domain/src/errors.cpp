#include <addrflow/domain/errors.hpp>
#include <array>

namespace addrflow::domain {
namespace {

constexpr std::array kErrors{
    ErrorInfo{ErrorCode::kOk, "ok", "Done", false},
    ErrorInfo{ErrorCode::kInvalidArgument, "invalid_argument",
              "A field of the request is missing or malformed", false},
    ErrorInfo{ErrorCode::kIllegalTransition, "illegal_transition",
              "Not possible in the present state", false},
    ErrorInfo{ErrorCode::kNotFound, "not_found", "There is no such service or binding", false},
    ErrorInfo{ErrorCode::kConflict, "conflict",
              "Another request for this service is under way or contradicts this one", false},
    ErrorInfo{ErrorCode::kKeyReused, "key_reused", "This key belongs to another request", false},
    ErrorInfo{ErrorCode::kGenerationMismatch, "generation_mismatch",
              "The request means another generation", false},
    ErrorInfo{ErrorCode::kNoSuchTenant, "no_such_tenant", "There is no such tenant", false},
    ErrorInfo{ErrorCode::kNoSuchPool, "no_such_pool",
              "There is no such pool, or the tenant may not use it", false},
    ErrorInfo{ErrorCode::kAmbiguousPool, "ambiguous_pool", "The tenant has several pools: name one",
              false},
    ErrorInfo{ErrorCode::kPoolExhausted, "pool_exhausted", "No available IP addresses", false},
    ErrorInfo{ErrorCode::kAddressOutsidePool, "address_outside_pool",
              "The address does not belong to the pool", false},
    ErrorInfo{ErrorCode::kAddressTaken, "address_taken",
              "The address is held, blocked or in quarantine", false},
    ErrorInfo{ErrorCode::kWrongAssignmentMode, "wrong_assignment_mode",
              "The subscriber's profile has no delegated prefix", false},
    ErrorInfo{ErrorCode::kUnknownNas, "unknown_nas", "There is no such NAS", false},
    ErrorInfo{ErrorCode::kUsernameTaken, "username_taken",
              "The username belongs to another service", false},
    ErrorInfo{ErrorCode::kSuperseded, "superseded", "A newer request owns the service", false},
    ErrorInfo{ErrorCode::kGaveUp, "gave_up", "The request was given up before it was done", false},
    ErrorInfo{ErrorCode::kNetboxConflict, "netbox_conflict",
              "In NetBox the address belongs to somebody else", false},
    ErrorInfo{ErrorCode::kNetboxFailed, "netbox_failed", "NetBox did not confirm the change",
              false},
    ErrorInfo{ErrorCode::kCoaFailed, "coa_failed", "The NAS did not confirm the change", false},
    ErrorInfo{ErrorCode::kAaaFailed, "aaa_failed", "The AAA database did not take the change",
              false},
    ErrorInfo{ErrorCode::kUnsupported, "unsupported", "Not supported yet", false},
    ErrorInfo{ErrorCode::kUnavailable, "unavailable", "A system that is needed cannot be reached",
              true},
    ErrorInfo{ErrorCode::kInternal, "internal", "An error inside addrflow", true},
    ErrorInfo{ErrorCode::kLedgerRestored, "ledger_restored",
              "The ledger was restored to an earlier state: a person must reconcile it first",
              false},
};

}  // namespace

std::span<const ErrorInfo> all_errors() { return kErrors; }

const ErrorInfo& info(ErrorCode code) { return kErrors.at(static_cast<std::size_t>(code)); }

std::string_view to_string(ErrorCode code) { return info(code).name; }

std::optional<ErrorCode> parse_error_code(std::string_view name) {
  for (const ErrorInfo& error : kErrors) {
    if (error.name == name) return error.code;
  }
  return std::nullopt;
}

bool retryable(ErrorCode code) { return info(code).retryable; }

}  // namespace addrflow::domain
