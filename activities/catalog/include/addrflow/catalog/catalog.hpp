// The activities by name, and the types that go in and out: all that a workflow knows of the world
// outside.
#pragma once

#include <addrflow/v1/activities.pb.h>
#include <addrflow/catalog/payload.hpp>
#include <tempora/activity_type.hpp>

namespace addrflow::catalog {

using tempora::ActivityType;

// Task queues with limits of their own (docs/workflows.md): an activity that waits for another
// workflow must never hold the slot which that workflow needs.
inline constexpr const char* kMainQueue = "addrflow";             // workflows, ledger and AAA
inline constexpr const char* kComposeQueue = "addrflow-compose";  // updates to other workflows
inline constexpr const char* kNetboxQueue = "addrflow-netbox";    // concurrency 4–8
inline constexpr const char* kRadiusQueue = "addrflow-radius";

// --- ledger
// ------------------------------------------------------------------------------------------------------
inline const ActivityType<v1::ClaimRequest, v1::ClaimReply> kClaim{"ledger_claim"};
inline const ActivityType<v1::ReserveRequest, v1::ReserveReply> kReserve{"ledger_reserve"};
inline const ActivityType<v1::TransitionRequest, v1::TransitionReply> kTransition{
    "ledger_transition"};
inline const ActivityType<v1::FinishRequest, v1::FinishReply> kFinish{"ledger_finish"};
inline const ActivityType<v1::UndoRequest, v1::UndoReply> kUndo{"ledger_undo"};
inline const ActivityType<v1::GateRequest, v1::GateReply> kGate{"ledger_gate"};
inline const ActivityType<v1::ViewRequest, v1::PendingReply> kPending{"ledger_pending"};
inline const ActivityType<v1::ComposeClaimRequest, v1::ComposeClaimReply> kComposeClaim{
    "ledger_compose_claim"};
inline const ActivityType<v1::ComposeFinishRequest, v1::Empty> kComposeFinish{
    "ledger_compose_finish"};
inline const ActivityType<v1::CleanupRequest, v1::CleanupResult> kCleanup{"ledger_cleanup"};
inline const ActivityType<v1::AuditRequest, v1::Empty> kAudit{"ledger_audit"};

// --- effects: what to do stands in the effect's row
// --------------------------------------------------------------
inline const ActivityType<v1::EffectRequest, v1::EffectReply> kAaaApply{"aaa_apply"};
inline const ActivityType<v1::EffectRequest, v1::EffectReply> kRadiusSend{
    "radius_send"};  // coa and disconnect
inline const ActivityType<v1::EffectRequest, v1::EffectReply> kNetboxApply{
    "netbox_apply"};  // reserve, set_active …

// --- a look at all of them (docs/decisions/0020): reads only
// ---------------------------------------------------------------------------------
inline const ActivityType<v1::PlanRequest, v1::PlanReply> kPlan{"plan"};

// --- compose
// -----------------------------------------------------------------------------------------------------
inline const ActivityType<v1::ComposeUpdateRequest, v1::ComposeUpdateReply> kComposeUpdate{
    "compose_update"};
inline const ActivityType<v1::ComposeWaitRequest, v1::ComposeWaitReply> kComposeWait{
    "compose_wait"};

}  // namespace addrflow::catalog
