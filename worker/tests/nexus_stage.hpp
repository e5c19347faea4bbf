// An endpoint of a stage's own, so that its workflows reach the handlers of its worker.
#pragma once

#include <string>
#include <tempora/nexus_endpoint.hpp>
#include <tempora/nexus_handler.hpp>

#include "stage.hpp"

namespace tempora::behaviour {

class OwnEndpoint {
 public:
  explicit OwnEndpoint(Stage& stage) : OwnEndpoint(stage, stage.queue()) {}
  OwnEndpoint(Stage& stage, const std::string& queue) : client_(stage.client()) {
    made_ =
        must(client_.nexus_endpoints().create({.name = unique("endpoint"), .task_queue = queue}));
  }
  ~OwnEndpoint() { (void)client_.nexus_endpoints().remove(made_.id, made_.version); }
  OwnEndpoint(const OwnEndpoint&) = delete;
  OwnEndpoint& operator=(const OwnEndpoint&) = delete;
  const std::string& name() const { return made_.spec.name; }

 private:
  const Client client_;
  NexusEndpointDescription made_;
};

// Why an operation did not succeed, in a few words.
inline std::string why(const Failure& failure) {
  if (dynamic_cast<const NexusOperationError*>(&failure) == nullptr) return "?";
  if (is_cancellation(failure)) return "cancelled";
  const Failure* cause = failure.cause();
  if (const auto* handler = dynamic_cast<const NexusHandlerError*>(cause))
    return "refused: " + std::string{to_string(handler->type())};
  if (const auto* timeout = dynamic_cast<const TimeoutError*>(cause))
    return "timed out: " + temporal::api::enums::v1::TimeoutType_Name(timeout->timeout_type());
  if (const auto* application = find_application_error(failure))
    return "failed: " + application->type();
  return "?";
}

// What came of an operation, or why nothing did.
template <class O>
Task<std::string> outcome_of(Future<O> result) {
  std::string text;
  try {
    text = co_await result;
  } catch (const Failure& failure) {
    text = why(failure);
  }
  co_return text;
}

}  // namespace tempora::behaviour
