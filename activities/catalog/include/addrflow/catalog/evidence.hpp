// What the schedules ask of the ledger, beside the daily cleanup.
#pragma once

#include <addrflow/v1/evidence.pb.h>
#include <addrflow/catalog/payload.hpp>
#include <tempora/activity_type.hpp>

namespace addrflow::catalog {

inline const tempora::ActivityType<v1::CatchUpRequest, v1::CatchUpResult> kCatchUp{
    "ledger_catch_up"};
inline const tempora::ActivityType<v1::EmitMetricsRequest, v1::EmitMetricsResult> kEmitMetrics{
    "ledger_emit_metrics"};

}  // namespace addrflow::catalog
