// Puts the activities on a worker. Header only, so that the library itself knows no worker.
#pragma once

#include <addrflow/catalog/catalog.hpp>
#include <addrflow/catalog/evidence.hpp>
#include <addrflow/ledger/ledger.hpp>
#include <tempora/failure.hpp>
#include <tempora/worker.hpp>

namespace addrflow::ledger {

template <class F>
auto as_activity(F&& call) {
  try {
    return call();
  } catch (const LedgerError& error) {
    throw tempora::ApplicationError{error.what(), std::string{domain::to_string(error.code())},
                                    !error.retryable()};
  }
}

// `ledger` must outlive the worker.
inline void add_activities(tempora::Worker& worker, Ledger& ledger) {
  const auto add = [&](const auto& type, auto method) {
    worker.add(type, [&ledger, method](tempora::ActivityContext&, const auto& request) {
      return as_activity([&] { return (ledger.*method)(request); });
    });
  };
  add(catalog::kClaim, &Ledger::claim);
  add(catalog::kReserve, &Ledger::reserve);
  add(catalog::kTransition, &Ledger::transition);
  add(catalog::kFinish,
      static_cast<v1::FinishReply (Ledger::*)(const v1::FinishRequest&)>(&Ledger::finish));
  add(catalog::kUndo, &Ledger::undo);
  add(catalog::kGate, &Ledger::gate);
  add(catalog::kPending, &Ledger::pending);
  add(catalog::kComposeClaim, &Ledger::compose_claim);
  add(catalog::kComposeFinish, &Ledger::compose_finish);
  worker.add(catalog::kCleanup, [&ledger](tempora::ActivityContext& context,
                                          const v1::CleanupRequest& request) {
    // What an earlier attempt deleted is gone: only its count is carried on.
    const auto done = context.heartbeat_details<v1::CleanupResult>().value_or(v1::CleanupResult{});
    return as_activity([&] {
      return ledger.cleanup(request, done, [&context](const v1::CleanupResult& so_far) {
        context.heartbeat(so_far);
        context.throw_if_cancelled();
      });
    });
  });
  worker.add(catalog::kCatchUp,
             [&ledger](tempora::ActivityContext& context, const v1::CatchUpRequest& request) {
               return as_activity([&] {
                 return ledger.catch_up(request, [&context](const v1::CatchUpResult& so_far) {
                   context.heartbeat(so_far);
                   context.throw_if_cancelled();
                 });
               });
             });
  worker.add(catalog::kEmitMetrics, [&ledger](tempora::ActivityContext& context,
                                              const v1::EmitMetricsRequest& request) {
    return as_activity([&] {
      return ledger.emit_metrics(request, [&context](const v1::EmitMetricsResult& so_far) {
        context.heartbeat(so_far);
        context.throw_if_cancelled();
      });
    });
  });
  add(catalog::kAudit, &Ledger::record);
}

}  // namespace addrflow::ledger
