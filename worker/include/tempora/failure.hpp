// Failures as they travel between workflows, activities and clients. Every class keeps the original
// message, so that passing a failure on loses nothing.
#pragma once

#include <temporal/api/common/v1/message.pb.h>
#include <temporal/api/enums/v1/workflow.pb.h>
#include <temporal/api/failure/v1/message.pb.h>

#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <tempora/payload.hpp>
#include <tempora/time.hpp>

namespace tempora {

using FailureProto = temporal::api::failure::v1::Failure;

// A failed step of a workflow. Workflow code that lets one escape fails the workflow; any other
// exception is a bug and fails only the workflow *task*, which is then tried again.
class Failure : public std::exception {
 public:
  explicit Failure(FailureProto proto);
  const char* what() const noexcept override { return proto_->message().c_str(); }
  const std::string& message() const { return proto_->message(); }
  // The failure that led to this one; null if there is none.
  const Failure* cause() const { return cause_.get(); }
  const FailureProto& proto() const { return *proto_; }

 protected:
  FailureProto& edit() { return *proto_; }  // only while being constructed
  void set_cause(const Failure& cause);

 private:
  std::shared_ptr<FailureProto> proto_;
  std::shared_ptr<const Failure> cause_;
};

// Thrown by users' code, in activities and workflows.
class ApplicationError : public Failure {
 public:
  explicit ApplicationError(FailureProto proto) : Failure(std::move(proto)) {}
  template <class... D>
  explicit ApplicationError(std::string message, std::string type = {}, bool non_retryable = false,
                            const D&... details)
      : ApplicationError(std::move(message), std::move(type), non_retryable,
                         Packed{encode_all(details...)}) {}

  const std::string& type() const { return proto().application_failure_info().type(); }
  bool non_retryable() const { return proto().application_failure_info().non_retryable(); }
  bool benign() const;  // expected: not counted as a failure, logged at debug
  const Payloads& details() const { return proto().application_failure_info().details(); }
  template <class T>
  std::optional<T> detail(int index = 0) const {
    if (index >= details().payloads_size()) return std::nullopt;
    return PayloadCodec<T>::decode(details().payloads(index));
  }
  std::optional<Duration> next_retry_delay() const;

  // Each returns the changed error, so that a throw expression can be built in one go.
  ApplicationError with_next_retry_delay(Duration delay) const;
  ApplicationError with_cause(const Failure& cause) const;
  ApplicationError as_benign() const;

 private:
  struct Packed {
    Payloads details;
  };
  ApplicationError(std::string message, std::string type, bool non_retryable, Packed details);
};

class ActivityError : public Failure {
 public:
  explicit ActivityError(FailureProto proto) : Failure(std::move(proto)) {}
  const std::string& activity_id() const { return proto().activity_failure_info().activity_id(); }
  const std::string& activity_type() const {
    return proto().activity_failure_info().activity_type().name();
  }
  temporal::api::enums::v1::RetryState retry_state() const {
    return proto().activity_failure_info().retry_state();
  }
};

class TimeoutError : public Failure {
 public:
  explicit TimeoutError(FailureProto proto) : Failure(std::move(proto)) {}
  temporal::api::enums::v1::TimeoutType timeout_type() const {
    return proto().timeout_failure_info().timeout_type();
  }
  const Payloads& last_heartbeat_details() const {
    return proto().timeout_failure_info().last_heartbeat_details();
  }
};

class CanceledError : public Failure {
 public:
  explicit CanceledError(FailureProto proto) : Failure(std::move(proto)) {}
  explicit CanceledError(std::string message = "canceled");
};

class ChildWorkflowError : public Failure {
 public:
  explicit ChildWorkflowError(FailureProto proto) : Failure(std::move(proto)) {}
  const std::string& workflow_id() const {
    return proto().child_workflow_execution_failure_info().workflow_execution().workflow_id();
  }
  const std::string& run_id() const {
    return proto().child_workflow_execution_failure_info().workflow_execution().run_id();
  }
  const std::string& workflow_type() const {
    return proto().child_workflow_execution_failure_info().workflow_type().name();
  }
  temporal::api::enums::v1::RetryState retry_state() const {
    return proto().child_workflow_execution_failure_info().retry_state();
  }
  // Nothing was started: a workflow with the id is running, or the reuse policy refuses.
  bool already_started() const;
};

class TerminatedError : public Failure {
 public:
  explicit TerminatedError(FailureProto proto) : Failure(std::move(proto)) {}
};

class ServerError : public Failure {
 public:
  explicit ServerError(FailureProto proto) : Failure(std::move(proto)) {}
};

// The exception object of the right class for a failure off the wire, causes included.
std::exception_ptr to_exception(const FailureProto& proto);
std::shared_ptr<const Failure> to_failure(const FailureProto& proto);
[[noreturn]] void throw_failure(const FailureProto& proto);
// What goes on the wire for any exception: a `Failure` as it is, another exception as an
// application failure whose type is the demangled class name.
FailureProto to_proto(std::exception_ptr error);
FailureProto to_proto(const std::exception& error);

// A `CanceledError`, or an activity or child failure whose chain of causes holds one.
bool is_cancellation(const Failure& failure);
// The first application error in the chain of causes, this failure included; null if there is none.
const ApplicationError* find_application_error(const Failure& failure);

}  // namespace tempora
