// The workflows that every worker under the bench runs: names and payloads are those of the peers.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <tempora/definition.hpp>

namespace tempora::bench {

struct ProvisionRequest {
  std::string subscriber_id, tenant_id, correlation;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(ProvisionRequest, subscriber_id, tenant_id,
                                                correlation)

struct ProvisionResult {
  std::string subscriber_id, tenant_id, status;
  int steps = 0;
  std::string correlation;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(ProvisionResult, subscriber_id, tenant_id, status,
                                                steps, correlation)

struct StepRequest {
  std::string step, subscriber_id, tenant_id, correlation;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(StepRequest, step, subscriber_id, tenant_id,
                                                correlation)

struct StepResult {
  std::string step, subscriber_id, tenant_id, status, correlation;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(StepResult, step, subscriber_id, tenant_id, status,
                                                correlation)

struct AddressRequest {
  std::string address_id, tenant_id, correlation;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(AddressRequest, address_id, tenant_id, correlation)

struct SignalRequest {
  std::string reason;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(SignalRequest, reason)

struct TransitionRequest {
  std::string to, request_id, correlation;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(TransitionRequest, to, request_id, correlation)

struct TransitionStep {
  std::string address_id, from, to, correlation;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(TransitionStep, address_id, from, to, correlation)

struct AddressStatus {
  std::string address_id, state;
  int revision = 0;
  std::string correlation;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(AddressStatus, address_id, state, revision,
                                                correlation)

struct ReplayLoopRequest {
  int iterations = 0;
  std::string correlation;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(ReplayLoopRequest, iterations, correlation)

struct ReplayLoopResult {
  int iterations = 0;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(ReplayLoopResult, iterations)

struct TickRequest {
  int sequence = 0;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(TickRequest, sequence)

inline ActivityType<StepRequest, StepResult> step(const std::string& name) {
  return {name, {.start_to_close = std::chrono::seconds{30}}};
}
inline const std::vector<ActivityType<StepRequest, StepResult>>& provision_steps() {
  static const std::vector<ActivityType<StepRequest, StepResult>> steps{
      step("reserve_address"), step("persist_state"), step("netbox_activate"), step("send_coa"),
      step("record_audit")};
  return steps;
}
inline const ActivityType<TransitionStep, TransitionStep> kApplyTransition{
    "apply_transition", {.start_to_close = std::chrono::seconds{30}}};

struct Provision {
  Task<ProvisionResult> run(Context& ctx, ProvisionRequest request) {
    int done = 0;
    for (const auto& activity : provision_steps()) {
      const StepRequest input{activity.name, request.subscriber_id, request.tenant_id,
                              request.correlation};
      co_await ctx.execute(activity, input);
      ++done;
    }
    co_return ProvisionResult{request.subscriber_id, request.tenant_id, "active", done,
                              request.correlation};
  }
};

class AddressEntity {
 public:
  AddressEntity(Context&, const AddressRequest& request)
      : status_{request.address_id, "active", 0, request.correlation} {}

  Task<AddressStatus> run(Context& ctx, AddressRequest) {
    co_await ctx.wait_until([this] { return revoked_; });
    co_await ctx.wait_until([&ctx] { return ctx.all_handlers_finished(); });
    co_return status_;
  }
  Task<AddressStatus> transition(Context& ctx, TransitionRequest request) {
    const TransitionStep step{status_.address_id, status_.state, request.to, request.correlation};
    co_await ctx.execute(kApplyTransition, step);
    set(request.to);
    co_return status_;
  }
  void validate(const TransitionRequest& request) const {
    if (revoked_ || (request.to != "active" && request.to != "suspended"))
      throw ApplicationError{"cannot go to " + request.to};
  }
  void suspend(SignalRequest) { set("suspended"); }
  void reactivate(SignalRequest) { set("active"); }
  void revoke(SignalRequest) {
    set("revoked");
    revoked_ = true;
  }
  AddressStatus status() const { return status_; }

 private:
  void set(const std::string& state) {
    status_.state = state;
    ++status_.revision;
  }
  AddressStatus status_;
  bool revoked_ = false;
};

// The dev server takes about a second to fire any timer.
inline constexpr int kIterationsPerTimer = 10;

struct ReplayLoop {
  int ticks = 0;
  Task<ReplayLoopResult> run(Context& ctx, ReplayLoopRequest request) {
    const auto& record = provision_steps().back();
    for (int i = 0; i < request.iterations; ++i) {
      const StepRequest input{record.name, {}, {}, request.correlation};
      co_await ctx.execute(record, input);
      if (i % kIterationsPerTimer == 0) co_await ctx.sleep(std::chrono::milliseconds{1});
      co_await ctx.wait_until([this] { return ticks > 0; });
      --ticks;
    }
    co_return ReplayLoopResult{request.iterations};
  }
  void tick(TickRequest) { ++ticks; }
};

inline const Definition<Provision> kProvision{"Provision", run(&Provision::run)};
inline const Definition<AddressEntity> kAddressEntity{
    "AddressEntity",
    run(&AddressEntity::run),
    signal("suspend", &AddressEntity::suspend),
    signal("reactivate", &AddressEntity::reactivate),
    signal("revoke", &AddressEntity::revoke),
    update("transition", &AddressEntity::transition, &AddressEntity::validate),
    query("status", &AddressEntity::status)};
inline const Definition<ReplayLoop> kReplayLoop{"ReplayLoop", run(&ReplayLoop::run),
                                                signal("tick", &ReplayLoop::tick)};

}  // namespace tempora::bench
