#include <addrflow/workflows/plan.hpp>

#include "failures.hpp"
#include "moves.hpp"
#include "requests.hpp"

#include <addrflow/domain/ids.hpp>
#include <addrflow/v1/answers.hpp>
#include <addrflow/v1/json.hpp>
#include <addrflow/workflows/names.hpp>
#include <algorithm>

namespace addrflow::workflows {
namespace {

using domain::ErrorCode;
using domain::Operation;

// What a person does about a line that stands still depends on what stands still by then.
bool is_repair(Operation operation) {
  return operation == Operation::kRetry || operation == Operation::kAdopt ||
         operation == Operation::kForceRelease;
}

class Walk {
 public:
  Walk(const v1::PlanRequest& request, const LookOnlyLedger& ledger)
      : request_(request), ledger_(ledger) {}

  v1::LifecycleResult run() {
    const std::string& kind = request_.kind();
    if (kind == kProvisionSubscriber) return provision();
    if (kind == kDeprovisionSubscriber) return deprovision();
    if (kind == kSuspendSubscriber) return change<v1::SuspendRequest>("suspend", kSuspendSteps);
    if (kind == kReactivateSubscriber)
      return change<v1::ReactivateRequest>("reactivate", kReactivateSteps);
    const auto operation = domain::parse_operation(kind);
    if (!operation || is_repair(*operation))
      throw refusal(ErrorCode::kInvalidArgument, "there is no plan of: " + kind);
    const auto order = order_from_json(*operation, request_.request_json(), own());
    if (!order) throw refusal(order.error());
    return carry_out(*order);
  }

 private:
  domain::ServiceId own() const {
    const v1::ServiceRef& service = request_.service();
    return {service.tenant_id(), service.subscriber_id(),
            service.service().empty() ? std::string{domain::kDefaultService} : service.service()};
  }

  // A request without a key would get one that nobody else has; so has this one.
  std::string unused_key() const {
    return "plan:" + sha256_hex(request_.request_json()).substr(0, 32);
  }

  template <class Request>
  Request read() {
    Request request;
    if (const auto read = v1::from_json_text(request_.request_json(), request); !read)
      throw refusal(ErrorCode::kInvalidArgument, read.error().message);
    request.clear_commit();
    check_shape(request);
    return request;
  }

  // The recorded answer, when the request was carried out before.
  template <class Request>
  std::optional<v1::LifecycleResult> claim_composition(const Request& request, const char* kind) {
    key_ = request.key().empty() ? unused_key() : request.key();
    v1::ComposeClaimRequest claim;
    *claim.mutable_service() = service_of(request);
    claim.set_kind(kind);
    claim.set_key(key_);
    claim.set_request_hash(hash_of(request, kind));
    const v1::ComposeClaimReply reply = ledger_.compose_claim(claim);
    if (reply.outcome() == "recorded") {
      v1::LifecycleResult recorded = reply.result().result();
      recorded.set_success(reply.result().success());
      recorded.set_code(reply.result().code());
      recorded.set_message("carried out before: " + reply.result().message());
      return recorded;
    }
    if (reply.outcome() == "busy") {
      throw refusal(ErrorCode::kConflict,
                    "another request for this service is under way: " + reply.workflow_id());
    }
    if (reply.outcome() != "claimed") {
      throw refusal(ErrorCode::kUnavailable, "a request for this service is under way: " +
                                                 reply.workflow_id() + "; plan when it is over");
    }
    view_ = reply.view();
    return std::nullopt;
  }

  template <class Message>
  Order order_for(Message message, const std::string& actor, const std::string& step,
                  std::string reason) {
    message.mutable_caller()->set_key(domain::step_key(key_, step));
    message.mutable_caller()->set_actor(actor.empty() ? "unknown" : actor);
    message.mutable_caller()->set_reason(std::move(reason));
    auto order = to_order(std::move(message), own());
    if (!order) throw refusal(order.error());
    return *std::move(order);
  }

  v1::LifecycleResult provision() {
    const auto request = read<v1::ProvisionRequest>();
    if (auto recorded = claim_composition(request, "provision")) return *recorded;
    std::vector<std::string> families = chosen_families(request, view_).families;
    v1::LifecycleResult allocated = carry_out(order_for(
        allocate_request(request, families, key_), request.actor(), kStepAllocate, "provision"));
    std::erase_if(families, [&](const std::string& family) {
      const v1::BindingView* binding = binding_of(allocated.service_view(), family);
      return family == request.optional_family() &&
             (binding == nullptr || binding->state() != "allocated");
    });
    v1::LifecycleResult activated =
        carry_out(order_for(activate_request(request, families), request.actor(),
                            kActivateSteps.of(families.front()), "provision"));
    for (const std::string& family : families) {
      const v1::BindingView* binding = binding_of(activated.service_view(), family);
      const std::string state = binding == nullptr ? "" : binding->state();
      if (state != "active") changed_meanwhile(family, state, "active");
    }
    if (activated.message().empty()) activated.set_message(allocated.message());
    activated.set_operation("provision");
    return activated;
  }

  v1::LifecycleResult deprovision() {
    const auto request = read<v1::DeprovisionRequest>();
    if (auto recorded = claim_composition(request, "deprovision")) return *recorded;
    const char* step = kRevokeSteps.of(families_of(request, view_).front());
    auto result =
        carry_out(order_for(revoke_request(request), request.actor(), step, request.reason()));
    result.set_operation("deprovision");
    return result;
  }

  template <class Message>
  v1::LifecycleResult change(const char* kind, const StepNames& steps) {
    const auto request = read<v1::SubscriberRequest>();
    if (auto recorded = claim_composition(request, kind)) return *recorded;
    const char* step = steps.of(families_of(request, view_).front());
    return carry_out(
        order_for(coa_request<Message>(request), request.actor(), step, request.reason()));
  }

  // What the service's workflow does with an order, up to the effects.
  v1::LifecycleResult carry_out(Order order) {
    if (order.caller.key().empty()) set_key(order, unused_key());
    const v1::ClaimReply claimed = ledger_.claim(claim_request(order));
    if (claimed.outcome() != "claimed") return claimed.result();
    take_families(order, claimed);
    std::string message = claimed.left_out();
    if (order.operation == Operation::kAllocate || order.operation == Operation::kReaddress) {
      const std::vector<std::string> wanted = order.families;
      for (const std::string& family : wanted) {
        try {
          ledger_.reserve(reservation_of(order, claimed.claim(), family));
        } catch (const std::exception& error) {
          if (family != order.optional_family) throw;
          message = family + " is left out: " + error.what();
          std::erase(order.families, family);
        }
      }
    }
    const Move move = first_move(order, claimed);
    ledger_.transition(move.request);
    if (message.empty()) message = move.message;
    return answer(order, message);
  }

  v1::LifecycleResult answer(const Order& order, const std::string& message) const {
    v1::LifecycleResult result;
    result.set_success(true);
    result.set_code("ok");
    result.set_operation(std::string{domain::to_string(order.operation)});
    result.set_message(message);
    *result.mutable_service_view() = ledger_.view();
    v1::show_bindings(result, result.service_view(), order.families);
    return result;
  }

  const v1::PlanRequest& request_;
  const LookOnlyLedger& ledger_;
  std::string key_;
  v1::ServiceView view_;
};

}  // namespace

v1::LifecycleResult look_ahead(const v1::PlanRequest& request, const LookOnlyLedger& ledger) {
  return Walk{request, ledger}.run();
}

}  // namespace addrflow::workflows
