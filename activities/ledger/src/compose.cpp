// One composition of a service runs at a time.
#include <addrflow/domain/ids.hpp>
#include <addrflow/ledger/ledger.hpp>

#include "look.hpp"
#include "rows.hpp"
#include "store.hpp"

namespace addrflow::ledger {
namespace {

struct Composition {
  std::int64_t id = 0;
  std::string kind;
  std::string hash;
  std::string workflow_id;
  std::string run_id;
  std::string phase;
  std::string outcome;
};

std::optional<Composition> read(const pqxx::result& found) {
  if (found.empty()) return std::nullopt;
  const auto& row = found[0];
  return Composition{.id = row[0].as<std::int64_t>(),
                     .kind = row[1].c_str(),
                     .hash = row[2].c_str(),
                     .workflow_id = row[3].c_str(),
                     .run_id = row[4].c_str(),
                     .phase = row[5].c_str(),
                     .outcome = row[6].c_str()};
}

constexpr const char* kSelect =
    "SELECT id, kind, request_hash, workflow_id, run_id, phase, coalesce(outcome::text, '')"
    " FROM compositions WHERE tenant_id = $1 AND subscriber_id = $2 AND service = $3";

class Claiming {
 public:
  enum class Mode { kClaim, kLook };

  Claiming(Tx& tx, const v1::ComposeClaimRequest& request, const ServiceRef& service,
           Mode mode = Mode::kClaim)
      : tx_(tx), request_(request), service_(service), look_(mode == Mode::kLook) {}

  v1::ComposeClaimReply run() {
    if (!look_) {
      tx_.exec_params(
          "SELECT pg_advisory_xact_lock(hashtextextended($1, 11))",
          service_.tenant_id() + "/" + service_.subscriber_id() + "/" + service_.service());
    }
    const std::string select = kSelect;
    const auto own =
        read(tx_.exec_params(select + " AND key = $4", service_.tenant_id(),
                             service_.subscriber_id(), service_.service(), request_.key()));
    if (own && own->hash != request_.request_hash())
      throw LedgerError{ErrorCode::kKeyReused, "key belongs to another request: " + request_.key()};
    if (own && own->phase == "finished") return recorded(*own);
    if (own && own->phase == "open") {
      const bool mine =
          own->run_id == request_.run_id() ||
          (!request_.take_over_from().empty() && own->run_id == request_.take_over_from());
      return mine ? reopen(*own) : other("join", *own);
    }
    const auto open = read(tx_.exec_params(select + " AND phase = 'open'", service_.tenant_id(),
                                           service_.subscriber_id(), service_.service()));
    if (open && open->run_id != request_.take_over_from()) return beside(*open);
    if (open) {
      tx_.exec_params(
          "UPDATE compositions SET phase = 'abandoned', finished_at = clock_timestamp()"
          " WHERE id = $1",
          open->id);
    }
    if (look_) return claimed();
    return own ? reopen(*own) : begin();
  }

 private:
  v1::ComposeClaimReply recorded(const Composition& own) {
    v1::ComposeClaimReply reply;
    reply.set_outcome("recorded");
    const auto json = nlohmann::json::parse(own.outcome);
    if (const auto ok = v1::from_json(json, *reply.mutable_result()); !ok)
      throw LedgerError{ErrorCode::kInternal, "the recorded result cannot be read"};
    return reply;
  }

  static v1::ComposeClaimReply other(const std::string& outcome, const Composition& composition) {
    v1::ComposeClaimReply reply;
    reply.set_outcome(outcome);
    reply.set_workflow_id(composition.workflow_id);
    reply.set_run_id(composition.run_id);
    return reply;
  }

  v1::ComposeClaimReply beside(const Composition& open) {
    if (open.kind == request_.kind() && open.hash == request_.request_hash())
      return other("join", open);
    if (request_.kind() == "deprovision" && open.kind == "provision") return other("preempt", open);
    return other("busy", open);
  }

  v1::ComposeClaimReply reopen(const Composition& own) {
    tx_.exec_params(
        "UPDATE compositions SET phase = 'open', workflow_id = $2, run_id = $3,"
        " finished_at = NULL WHERE id = $1",
        own.id, request_.workflow_id(), request_.run_id());
    return claimed();
  }

  v1::ComposeClaimReply begin() {
    tx_.exec_params(
        "INSERT INTO compositions (tenant_id, subscriber_id, service, key, kind, request_hash,"
        " workflow_id, run_id) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        service_.tenant_id(), service_.subscriber_id(), service_.service(), request_.key(),
        request_.kind(), request_.request_hash(), request_.workflow_id(), request_.run_id());
    return claimed();
  }

  v1::ComposeClaimReply claimed() {
    v1::ComposeClaimReply reply;
    reply.set_outcome("claimed");
    *reply.mutable_view() = read_view(tx_, service_);
    return reply;
  }

  Tx& tx_;
  const v1::ComposeClaimRequest& request_;
  const ServiceRef& service_;
  const bool look_;
};

void check(Tx& tx, const v1::ComposeClaimRequest& request, const ServiceRef& service) {
  if (const auto ok = domain::check_key("key", request.key()); !ok)
    throw LedgerError{ErrorCode::kInvalidArgument, ok.error().message};
  if (tx.exec_params("SELECT 1 FROM tenants WHERE tenant_id = $1", service.tenant_id()).empty()) {
    throw LedgerError{ErrorCode::kNoSuchTenant,
                      "tenant_id: there is no such tenant: " + service.tenant_id()};
  }
}

}  // namespace

v1::ComposeClaimReply look_at_composition(Tx& tx, const v1::ComposeClaimRequest& request,
                                          const ServiceRef& service) {
  check(tx, request, service);
  return Claiming{tx, request, service, Claiming::Mode::kLook}.run();
}

v1::ComposeClaimReply Ledger::compose_claim(const v1::ComposeClaimRequest& request) {
  const ServiceRef service = checked(request.service());
  return store_->as_tenant(service.tenant_id(), [&](Tx& tx) {
    check(tx, request, service);
    v1::ComposeClaimReply reply = Claiming{tx, request, service}.run();
    *reply.mutable_pace() = settings_.pace;
    return reply;
  });
}

v1::Empty Ledger::compose_finish(const v1::ComposeFinishRequest& request) {
  const ServiceRef service = checked(request.service());
  return store_->as_tenant(service.tenant_id(), [&](Tx& tx) {
    tx.exec_params(
        "UPDATE compositions SET phase = 'finished', outcome = $6::jsonb,"
        " finished_at = clock_timestamp() WHERE tenant_id = $1 AND subscriber_id = $2 AND"
        " service = $3 AND key = $4 AND run_id = $5 AND phase = 'open'",
        service.tenant_id(), service.subscriber_id(), service.service(), request.key(),
        request.run_id(), v1::to_json_text(request.result()));
    return v1::Empty{};
  });
}

}  // namespace addrflow::ledger
