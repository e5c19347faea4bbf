// Names that must never change, because stored histories and rows depend on them.
#pragma once

#include <addrflow/domain/errors.hpp>
#include <addrflow/domain/operation.hpp>
#include <expected>
#include <optional>
#include <string>
#include <string_view>

namespace addrflow::domain {

inline constexpr std::string_view kDefaultService = "internet";
inline constexpr std::string_view kFamilyIpv4 = "ipv4";
inline constexpr std::string_view kFamilyIpv6Pd = "ipv6_pd";

// Which line. Parts are [A-Za-z0-9._-]{1,64}; a UUID fits.
struct ServiceId {
  std::string tenant;
  std::string subscriber;
  std::string service{kDefaultService};

  bool operator==(const ServiceId&) const = default;
};

// Whether no byte of it is a control character. What leaves for another system (a username, a plan)
// has to be: one rule for who asks and for who writes it.
bool is_printable(std::string_view text);

std::expected<void, FieldError> check_id(std::string_view field, std::string_view value);
// Idempotency keys: [A-Za-z0-9._:-]{1,128}.
std::expected<void, FieldError> check_key(std::string_view field, std::string_view value);
std::expected<void, FieldError> check_service(const ServiceId& id);

// What AAA and accounting know a line by, which may have no username of its own.
std::string username_of(std::string_view username, std::string_view subscriber);

// Percent-escapes everything but [A-Za-z0-9._-], so that a part can never contain the separator.
std::string escape_part(std::string_view part);
std::optional<std::string> unescape_part(std::string_view part);

// `service/{tenant}/{subscriber}/{service}`, the workflow that owns the service.
std::string service_workflow_id(const ServiceId& id);
std::optional<ServiceId> parse_service_workflow_id(std::string_view workflow_id);

// `{operation}:{key}`
std::string update_id(Operation operation, std::string_view key);
// The key inside an update id made by `update_id`; any other update id is a key of its own.
std::string key_of_update_id(Operation operation, std::string_view update_id);

// A key from a name that somebody else chose (a workflow id): itself where it is a legal key, else
// escaped, and shortened with a checksum where it is too long.
std::string key_from(std::string_view name);

// The key of one step of a composition: the composition's own key and the step, so that a repeat of
// the same composition meets the same operations.
std::string step_key(std::string_view composition_key, std::string_view step);

// Workflow id, first execution run id and step: stable over retries, continue-as-new and reset.
std::string run_step_key(std::string_view workflow_id, std::string_view first_execution_run_id,
                         std::string_view step);

}  // namespace addrflow::domain
