#include <cxxabi.h>

#include <algorithm>
#include <cstdlib>
#include <tempora/failure.hpp>
#include <tempora/nexus.hpp>
#include <typeinfo>

#include "converter/benign.hpp"
#include "converter/time.hpp"
#include "converter/utf8.hpp"

namespace tempora {
namespace {

constexpr const char* kSource = "tempora";

// Calls `use` with an object of the class that stands for `proto`.
template <class F>
auto with_class_of(const FailureProto& proto, F use) {
  switch (proto.failure_info_case()) {
    case FailureProto::kApplicationFailureInfo: return use(ApplicationError{proto});
    case FailureProto::kActivityFailureInfo: return use(ActivityError{proto});
    case FailureProto::kTimeoutFailureInfo: return use(TimeoutError{proto});
    case FailureProto::kCanceledFailureInfo: return use(CanceledError{proto});
    case FailureProto::kChildWorkflowExecutionFailureInfo: return use(ChildWorkflowError{proto});
    case FailureProto::kTerminatedFailureInfo: return use(TerminatedError{proto});
    case FailureProto::kServerFailureInfo: return use(ServerError{proto});
    case FailureProto::kNexusOperationExecutionFailureInfo: return use(NexusOperationError{proto});
    case FailureProto::kNexusHandlerFailureInfo: return use(NexusHandlerError{proto});
    default: return use(Failure{proto});
  }
}

std::string class_name(const std::exception& error) {
  int status = 0;
  char* demangled = abi::__cxa_demangle(typeid(error).name(), nullptr, nullptr, &status);
  std::string name = status == 0 ? demangled : typeid(error).name();
  std::free(demangled);
  return name;
}

}  // namespace

Failure::Failure(FailureProto proto) : proto_(std::make_shared<FailureProto>(std::move(proto))) {
  if (proto_->has_cause()) cause_ = to_failure(proto_->cause());
}

void Failure::set_cause(const Failure& cause) {
  *proto_->mutable_cause() = cause.proto();
  cause_ = to_failure(cause.proto());
}

ApplicationError::ApplicationError(std::string message, std::string type, bool non_retryable,
                                   Packed details)
    : Failure([&] {
        FailureProto proto;
        proto.set_message(valid_utf8(message));
        proto.set_source(kSource);
        auto& info = *proto.mutable_application_failure_info();
        info.set_type(valid_utf8(type));
        info.set_non_retryable(non_retryable);
        if (details.details.payloads_size() > 0)
          *info.mutable_details() = std::move(details.details);
        return proto;
      }()) {}

bool ApplicationError::benign() const { return is_benign(proto()); }

std::optional<Duration> ApplicationError::next_retry_delay() const {
  if (!proto().application_failure_info().has_next_retry_delay()) return std::nullopt;
  return from_proto(proto().application_failure_info().next_retry_delay());
}

ApplicationError ApplicationError::with_next_retry_delay(Duration delay) const {
  FailureProto changed = proto();
  write(delay, changed.mutable_application_failure_info()->mutable_next_retry_delay());
  return ApplicationError{std::move(changed)};
}

ApplicationError ApplicationError::with_cause(const Failure& cause) const {
  FailureProto changed = proto();
  *changed.mutable_cause() = cause.proto();
  return ApplicationError{std::move(changed)};
}

ApplicationError ApplicationError::as_benign() const {
  FailureProto changed = proto();
  changed.mutable_application_failure_info()->set_category(
      temporal::api::enums::v1::APPLICATION_ERROR_CATEGORY_BENIGN);
  return ApplicationError{std::move(changed)};
}

CanceledError::CanceledError(std::string message)
    : Failure([&] {
        FailureProto proto;
        proto.set_message(valid_utf8(message));
        proto.set_source(kSource);
        proto.mutable_canceled_failure_info();
        return proto;
      }()) {}

bool ChildWorkflowError::already_started() const {
  return proto().cause().application_failure_info().type() == "WorkflowExecutionAlreadyStarted";
}

namespace {

struct NexusType {
  NexusErrorType type;
  std::string_view name;
  bool retryable;
};
constexpr NexusType kNexusTypes[] = {
    {NexusErrorType::kBadRequest, "BAD_REQUEST", false},
    {NexusErrorType::kUnauthenticated, "UNAUTHENTICATED", false},
    {NexusErrorType::kUnauthorized, "UNAUTHORIZED", false},
    {NexusErrorType::kNotFound, "NOT_FOUND", false},
    {NexusErrorType::kConflict, "CONFLICT", false},
    {NexusErrorType::kNotImplemented, "NOT_IMPLEMENTED", false},
    {NexusErrorType::kResourceExhausted, "RESOURCE_EXHAUSTED", true},
    {NexusErrorType::kRequestTimeout, "REQUEST_TIMEOUT", true},
    {NexusErrorType::kInternal, "INTERNAL", true},
    {NexusErrorType::kUnavailable, "UNAVAILABLE", true},
    {NexusErrorType::kUpstreamTimeout, "UPSTREAM_TIMEOUT", true},
    {NexusErrorType::kUnknown, "UNKNOWN", true},
};

}  // namespace

std::string_view to_string(NexusErrorType type) {
  return std::ranges::find(kNexusTypes, type, &NexusType::type)->name;
}

NexusHandlerError::NexusHandlerError(NexusErrorType type, std::string message,
                                     std::optional<bool> retryable)
    : Failure([&] {
        FailureProto proto;
        proto.set_message(valid_utf8(message));
        proto.set_source(kSource);
        auto& info = *proto.mutable_nexus_handler_failure_info();
        info.set_type(std::string{to_string(type)});
        if (retryable) {
          info.set_retry_behavior(
              *retryable
                  ? temporal::api::enums::v1::NEXUS_HANDLER_ERROR_RETRY_BEHAVIOR_RETRYABLE
                  : temporal::api::enums::v1::NEXUS_HANDLER_ERROR_RETRY_BEHAVIOR_NON_RETRYABLE);
        }
        return proto;
      }()) {}

NexusErrorType NexusHandlerError::type() const {
  const auto* const found = std::ranges::find(kNexusTypes, type_name(), &NexusType::name);
  return found == std::end(kNexusTypes) ? NexusErrorType::kUnknown : found->type;
}

bool NexusHandlerError::retryable() const {
  switch (proto().nexus_handler_failure_info().retry_behavior()) {
    case temporal::api::enums::v1::NEXUS_HANDLER_ERROR_RETRY_BEHAVIOR_RETRYABLE: return true;
    case temporal::api::enums::v1::NEXUS_HANDLER_ERROR_RETRY_BEHAVIOR_NON_RETRYABLE: return false;
    default: return std::ranges::find(kNexusTypes, type(), &NexusType::type)->retryable;
  }
}

NexusHandlerError NexusHandlerError::with_cause(const Failure& cause) const {
  FailureProto changed = proto();
  *changed.mutable_cause() = cause.proto();
  return NexusHandlerError{std::move(changed)};
}

std::exception_ptr to_exception(const FailureProto& proto) {
  return with_class_of(proto,
                       [](auto failure) { return std::make_exception_ptr(std::move(failure)); });
}

std::shared_ptr<const Failure> to_failure(const FailureProto& proto) {
  return with_class_of(proto, [](auto failure) -> std::shared_ptr<const Failure> {
    return std::make_shared<const decltype(failure)>(std::move(failure));
  });
}

void throw_failure(const FailureProto& proto) { std::rethrow_exception(to_exception(proto)); }

FailureProto to_proto(const std::exception& error) {
  if (const auto* failure = dynamic_cast<const Failure*>(&error)) return failure->proto();
  FailureProto proto;
  proto.set_message(valid_utf8(error.what()));
  proto.set_source(kSource);
  proto.mutable_application_failure_info()->set_type(class_name(error));
  return proto;
}

FailureProto to_proto(std::exception_ptr error) {
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& exception) {
    return to_proto(exception);
  } catch (...) {
    FailureProto proto;
    proto.set_message("an exception that is not a std::exception");
    proto.set_source(kSource);
    proto.mutable_application_failure_info()->set_type("unknown");
    return proto;
  }
}

bool is_cancellation(const Failure& failure) {
  if (dynamic_cast<const CanceledError*>(&failure) != nullptr) return true;
  const bool wraps = dynamic_cast<const ActivityError*>(&failure) != nullptr ||
                     dynamic_cast<const ChildWorkflowError*>(&failure) != nullptr ||
                     dynamic_cast<const NexusOperationError*>(&failure) != nullptr;
  return wraps && failure.cause() != nullptr && is_cancellation(*failure.cause());
}

const ApplicationError* find_application_error(const Failure& failure) {
  for (const Failure* link = &failure; link != nullptr; link = link->cause()) {
    if (const auto* application = dynamic_cast<const ApplicationError*>(link)) return application;
  }
  return nullptr;
}

}  // namespace tempora
