// The public face of the workflows: names, and the messages that go in and out. Header only: a
// client that uses it links no workflow code. Everything is plain JSON on the wire
// (docs/workflows.md).
#pragma once

#include <addrflow/v1/lifecycle.pb.h>
#include <addrflow/v1/provision.pb.h>

namespace addrflow::workflows {

inline constexpr const char* kTaskQueue = "addrflow";

// The only workflow that changes a service's state. Id: `domain::service_workflow_id`. Started by
// update-with-start or signal-with-start; its input may be left out. Ends by itself when nothing is
// left to do.
namespace service_lifecycle {
inline constexpr const char* kName = "ServiceLifecycle";

// Updates take the request of their name and answer with `v1::LifecycleResult`. Update id:
// `domain::update_id`. A refusal is a failure whose type is an error code of `domain/errors.hpp`.
inline constexpr const char* kAllocate = "allocate";           // v1::AllocateRequest
inline constexpr const char* kActivate = "activate";           // v1::ActivateRequest
inline constexpr const char* kSuspend = "suspend";             // v1::SuspendRequest
inline constexpr const char* kReactivate = "reactivate";       // v1::ReactivateRequest
inline constexpr const char* kRevoke = "revoke";               // v1::RevokeRequest
inline constexpr const char* kRetry = "retry";                 // v1::RetryRequest
inline constexpr const char* kAdopt = "adopt";                 // v1::AdoptRequest
inline constexpr const char* kForceRelease = "force_release";  // v1::ForceReleaseRequest
inline constexpr const char* kMove = "move";                   // v1::MoveRequest
inline constexpr const char* kRebind = "rebind";               // v1::RebindRequest
inline constexpr const char* kChangePlan = "change_plan";      // v1::ChangePlanRequest
inline constexpr const char* kReaddress = "readdress";         // v1::ReaddressRequest

// Signals `suspend`, `reactivate` and `revoke` take the same requests and do the same without an
// answer. `wake` takes nothing: look at the ledger for what is still to be done.
inline constexpr const char* kWake = "wake";

inline constexpr const char* kStatus = "status";  // query → v1::ServiceStatus
// The query `progress` (below) answers for the newest operation of the run: its steps and effects.
}  // namespace service_lifecycle

// The composed workflows. Each answers the query `progress` with `v1::CompositionProgress` and
// takes, as signals and as updates, what an operator has to say (`v1::OperatorRequest`). Success is
// a `v1::CompositionResult`; else the workflow fails with an application error whose type is an
// error code, and whose first detail is the `v1::CompositionResult` if work was begun.
inline constexpr const char* kProvisionSubscriber = "ProvisionSubscriber";  // v1::ProvisionRequest
inline constexpr const char* kDeprovisionSubscriber =
    "DeprovisionSubscriber";                                            // v1::DeprovisionRequest
inline constexpr const char* kSuspendSubscriber = "SuspendSubscriber";  // v1::SubscriberRequest
inline constexpr const char* kReactivateSubscriber =
    "ReactivateSubscriber";  // v1::SubscriberRequest
inline constexpr const char* kProgress = "progress";
inline constexpr const char* kPause = "pause";  // no further step begins
inline constexpr const char* kResume = "resume";
inline constexpr const char* kRetry = "retry";     // the blocked step begins again at once
inline constexpr const char* kSkip = "skip";       // an optional step is left out
inline constexpr const char* kGiveUp = "give_up";  // stop, and undo where that is the way

// v1::CleanupRequest → v1::CleanupResult; run by a schedule.
inline constexpr const char* kCleanupStaleAddresses = "CleanupStaleAddresses";

// v1::CatchUpRequest → v1::CatchUpResult; run by a schedule.
inline constexpr const char* kCatchUpDueWork = "CatchUpDueWork";

// v1::EmitMetricsRequest → v1::EmitMetricsResult; run by a schedule.
inline constexpr const char* kEmitLifecycleMetrics = "EmitLifecycleMetrics";

// The seeds' step names, as `v1::Step.name` has them.
inline constexpr const char* kStepAllocate = "allocate_ip_handler";
inline constexpr const char* kStepActivateIpv4 = "activate_ipv4_lifecycle";
inline constexpr const char* kStepActivateIpv6 = "activate_ipv6_lifecycle";
inline constexpr const char* kStepSuspendIpv4 = "suspend_ipv4_lifecycle";
inline constexpr const char* kStepSuspendIpv6 = "suspend_ipv6_lifecycle";
inline constexpr const char* kStepReactivateIpv4 = "reactivate_ipv4_lifecycle";
inline constexpr const char* kStepReactivateIpv6 = "resume_ipv6_lifecycle";
inline constexpr const char* kStepRevokeIpv4 = "revoke_ipv4_lifecycle";
inline constexpr const char* kStepRevokeIpv6 = "revoke_ipv6_lifecycle";
inline constexpr const char* kStepVerify = "verify";

}  // namespace addrflow::workflows
