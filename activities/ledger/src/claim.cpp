// The right to change a service: compare-and-set on its head row, with the table of moves.
#include <fmt/format.h>
#include <addrflow/domain/ids.hpp>
#include <addrflow/domain/ipv4.hpp>
#include <addrflow/domain/ipv6.hpp>
#include <addrflow/domain/transition_table.hpp>
#include <addrflow/ledger/ledger.hpp>
#include <addrflow/v1/answers.hpp>
#include <algorithm>

#include "allocator.hpp"
#include "look.hpp"
#include "restore.hpp"
#include "rows.hpp"
#include "store.hpp"

namespace addrflow::ledger {
namespace {

using domain::Guard;
using domain::Operation;
using domain::Verdict;

v1::LifecycleResult answer_from(v1::ServiceView view, const std::string& operation,
                                const std::vector<std::string>& families,
                                const std::string& message) {
  v1::LifecycleResult result;
  result.set_success(true);
  result.set_code("ok");
  result.set_operation(operation);
  result.set_message(message);
  *result.mutable_service_view() = std::move(view);
  result.set_enforcement(result.service_view().enforcement());
  v1::show_bindings(result, result.service_view(), families);
  return result;
}

bool is_address(const std::string& text) {
  return domain::parse_ipv4(text) || domain::parse_ipv6(text);
}

bool is_family(std::string_view family) {
  return family == domain::kFamilyIpv4 || family == domain::kFamilyIpv6Pd;
}

// An operation without families means what the line has and the operation can be done to; where
// that is nothing, all of it, so that the refusal says why.
std::vector<std::string> meant_families(Operation operation, const std::vector<Row>& rows) {
  std::vector<std::string> meant;
  for (const Row& row : rows) {
    if (domain::check(operation, row.state).kind != Verdict::Kind::kRefuse)
      meant.push_back(row.family);
  }
  if (meant.empty() && operation != Operation::kAllocate) {
    for (const Row& row : rows) meant.push_back(row.family);
  }
  if (meant.empty() || operation == Operation::kAllocate)
    meant.assign({std::string{domain::kFamilyIpv4}});
  return meant;
}

// One claim, inside its transaction. With something supposed it is a look: it says what the claim
// would, of the service as it is supposed to be; it locks and writes nothing.
class Claiming {
 public:
  Claiming(Tx& tx, const v1::ClaimRequest& request, const Settings& settings,
           Supposed* supposed = nullptr)
      : tx_(tx),
        request_(request),
        settings_(settings),
        service_(checked(request.service())),
        supposed_(supposed) {}

  v1::ClaimReply run() {
    read_operation();
    check_tenant();
    take_head();
    if (auto known = known_operation()) return *std::move(known);
    check_names();
    const Plan plan = consult_table();
    if (operation_ == Operation::kAllocate) check_standing(plan);
    if (plan == Plan::kNothing) return nothing();
    settle_open_operation();
    return claim();
  }

 private:
  enum class Plan { kMove, kNothing };

  void read_operation() {
    const auto operation = domain::parse_operation(request_.operation());
    if (!operation) {
      throw LedgerError{ErrorCode::kInvalidArgument,
                        "operation is not known: " + request_.operation()};
    }
    operation_ = *operation;
    if (const auto ok = domain::check_key("caller.key", request_.caller().key()); !ok)
      throw LedgerError{ErrorCode::kInvalidArgument, ok.error().message};
    for (const std::string& family : request_.families()) {
      if (!is_family(family))
        throw LedgerError{ErrorCode::kInvalidArgument, "families: no such family: " + family};
    }
    if (!request_.optional_family().empty() && !is_family(request_.optional_family())) {
      throw LedgerError{ErrorCode::kInvalidArgument,
                        "optional_family: no such family: " + request_.optional_family()};
    }
    const std::string& when = request_.restrict_when();
    if (!when.empty() && when != "any" && when != "all")
      throw LedgerError{ErrorCode::kInvalidArgument, "restrict_when must be \"any\" or \"all\""};
  }

  void check_tenant() {
    if (tx_.exec_params("SELECT 1 FROM tenants WHERE tenant_id = $1", service_.tenant_id())
            .empty()) {
      throw LedgerError{ErrorCode::kNoSuchTenant,
                        "service.tenant_id: there is no such tenant: " + service_.tenant_id()};
    }
  }

  // A service begins with its first request; a refused one is rolled back and leaves none.
  void take_head() {
    if (supposed_ != nullptr) {
      head_ = supposed_->head;
      rows_ = supposed_->session.rows;
    } else {
      tx_.exec_params(
          "INSERT INTO services (tenant_id, subscriber_id, service) VALUES ($1, $2, $3)"
          " ON CONFLICT DO NOTHING",
          service_.tenant_id(), service_.subscriber_id(), service_.service());
      head_ = read_head(tx_, service_, Lock::kYes).value();
      rows_ = read_rows(tx_, head_.id);
    }
    families_.assign(request_.families().begin(), request_.families().end());
    if (families_.empty()) families_ = meant_families(operation_, rows_);
  }

  std::optional<v1::ClaimReply> known_operation() {
    const auto found = tx_.exec_params(
        "SELECT id, request_hash, phase, number, outcome::text, families::text, left_out"
        " FROM operations"
        " WHERE tenant_id = $1 AND subscriber_id = $2 AND service = $3 AND key = $4",
        service_.tenant_id(), service_.subscriber_id(), service_.service(),
        request_.caller().key());
    if (found.empty()) {
      check_tombstone();
      return std::nullopt;
    }
    const auto& row = found[0];
    if (row[1].c_str() != request_.request_hash()) {
      throw LedgerError{ErrorCode::kKeyReused,
                        "caller.key belongs to another request: " + request_.caller().key()};
    }
    v1::ClaimReply reply = base_reply();
    const auto id = row[0].as<std::int64_t>();
    if (std::string{row[2].c_str()} == "finished") {
      reply.set_outcome("recorded");
      const auto json = nlohmann::json::parse(row[4].c_str());
      if (const auto read = v1::from_json(json, *reply.mutable_result()); !read)
        throw LedgerError{ErrorCode::kInternal, "the recorded answer cannot be read"};
      return reply;
    }
    if (supposed_ != nullptr) {
      throw LedgerError{ErrorCode::kUnavailable,
                        "the request of this caller.key is under way: ask for its answer"};
    }
    tx_.exec_params(
        "UPDATE operations SET workflow_id = $2, run_id = $3, resumed = resumed OR run_id <> $3"
        " WHERE id = $1",
        id, request_.workflow_id(), request_.run_id());
    moving_ = words_of(row[5].c_str());
    left_out_ = row[6].c_str();
    fill_claim(reply, id, row[3].as<std::int64_t>());
    return reply;
  }

  void check_tombstone() {
    const bool dead = !tx_.exec_params(
                              "SELECT 1 FROM tombstones WHERE tenant_id = $1 AND"
                              " subscriber_id = $2 AND service = $3 AND key = $4",
                              service_.tenant_id(), service_.subscriber_id(), service_.service(),
                              request_.caller().key())
                           .empty();
    if (dead) throw LedgerError{ErrorCode::kSuperseded, "caller.key was released before"};
  }

  void check_names() {
    if (!request_.nas_ip().empty()) {
      if (!is_address(request_.nas_ip()))
        throw LedgerError{ErrorCode::kInvalidArgument,
                          "nas_ip is no address: " + request_.nas_ip()};
      const auto known = known_nas(tx_, request_.nas_ip());
      nas_ip_ = known.value_or(request_.nas_ip());
      // A hint that is wrong must not keep a line from being cut: there accounting has the say.
      const bool must = operation_ == Operation::kAllocate || operation_ == Operation::kActivate ||
                        operation_ == Operation::kMove || operation_ == Operation::kReaddress;
      if (must && !known && !settings_.default_nas)
        throw LedgerError{ErrorCode::kUnknownNas,
                          "nas_ip: there is no such NAS: " + request_.nas_ip()};
    }
    if (operation_ == Operation::kMove || operation_ == Operation::kReaddress ||
        operation_ == Operation::kActivate)
      check_pools();
    if (!names_line()) return;
    const std::string username = wanted_username();
    if (supposed_ == nullptr)
      tx_.exec_params("SELECT pg_advisory_xact_lock(hashtextextended($1, 7))", username);
    const bool taken =
        tx_.exec_params("SELECT username_taken($1, $2)", head_.id, username)[0][0].as<bool>();
    if (taken) {
      throw LedgerError{ErrorCode::kUsernameTaken,
                        "username belongs to another service: " + username};
    }
    const bool leaving =
        tx_.exec_params("SELECT username_leaving($1, $2)", head_.id, username)[0][0].as<bool>();
    if (leaving) {
      throw LedgerError{
          ErrorCode::kUsernameTaken,
          "username was another service's, whose session is not cut yet: " + username};
    }
  }

  std::string username_now() const {
    return domain::username_of(head_.username, service_.subscriber_id());
  }
  std::string wanted_username() const {
    return request_.username().empty() ? username_now() : request_.username();
  }

  // Whichever operation brings another name, the line is known by it from then on.
  bool names_line() const {
    return operation_ == Operation::kAllocate || operation_ == Operation::kRebind ||
           wanted_username() != username_now();
  }

  bool has_something() const {
    return std::ranges::any_of(rows_, [](const Row& row) {
      return row.state != domain::State::kRevoked || row.space_held;
    });
  }

  // Only what moves the line renames it: a request that is answered with what there is already
  // tells neither AAA nor the session.
  void take_username() {
    if (!names_line()) return;
    const std::string username = wanted_username();
    // A line without a name of its own goes by its subscriber's.
    const std::string before = has_something() ? username_now() : head_.username;
    if (supposed_ != nullptr) return supposed_->take_username(username, before);
    tx_.exec_params(
        "UPDATE services SET username = $2, former_usernames = CASE WHEN $3::text IN ('', $2)"
        " THEN array_remove(former_usernames, $2)"
        " ELSE array_append(array_remove(array_remove(former_usernames, $2), $3), $3) END"
        " WHERE id = $1",
        head_.id, username, before);
  }

  // The name that the line stops using, under which it may have a session.
  std::string left_username() const {
    return names_line() && has_something() && wanted_username() != username_now() ? username_now()
                                                                                  : "";
  }

  // Space of a site's own pool cannot be taken along to a NAS that the pool does not serve.
  void check_pools() {
    if (nas_ip_.empty()) return;
    if (operation_ == Operation::kActivate && nas_ip_ == nas_address(tx_, head_.nas_ip)) return;
    for (const Row& row : rows_) {
      const bool goes_along = row.space_held && domain::is_live(row.state) &&
                              row.state != domain::State::kRevoking &&
                              (operation_ != Operation::kReaddress ||
                               std::ranges::find(families_, row.family) == families_.end());
      if (goes_along) must_serve_nas(row);
    }
  }

  void must_serve_nas(const Row& row) {
    const bool serves =
        tx_.exec_params(
               "SELECT NOT EXISTS (SELECT 1 FROM pool_nas WHERE pool_id = $1::uuid)"
               " OR EXISTS (SELECT 1 FROM pool_nas WHERE pool_id = $1::uuid AND nas_ip = "
               "$2::inet)",
               row.pool_id, nas_ip_)[0][0]
            .as<bool>();
    if (!serves) {
      throw LedgerError{ErrorCode::kConflict, "nas_ip: the pool of " + row.address +
                                                  " belongs to other NAS: readdress the line"};
    }
  }

  // What an allocate says of a line that lives, and that is otherwise there: it would be dropped,
  // or changed behind the session's back. Where the line has no NAS yet, the one that is named is
  // noted.
  void check_standing(Plan plan) {
    bool lives = false;
    for (const Row& row : rows_) {
      const bool stands = row.state == State::kAllocated || row.state == State::kActive ||
                          row.state == State::kSuspended;
      if (!stands || row.created_by_operation == head_.open_operation) continue;
      lives = true;
      if (!means_pool(tx_, wish_for(row.family), row.pool_id)) {
        throw LedgerError{
            ErrorCode::kConflict,
            fmt::format("{} is not the pool of the space held, readdress the line: {}",
                        row.family == domain::kFamilyIpv4 ? "ipv4_pool_id" : "ipv6_pool_id",
                        row.address)};
      }
      if (!nas_ip_.empty() && head_.nas_ip.empty()) must_serve_nas(row);
    }
    if (!lives) return;
    must_be_as("plan", request_.plan(), head_.plan.empty() ? "default" : head_.plan,
               "change its plan");
    if (!head_.nas_ip.empty())
      must_be_as("nas_ip", nas_ip_, nas_address(tx_, head_.nas_ip), "move it");
    if (plan == Plan::kNothing)
      must_be_as("restrict_when", request_.restrict_when(), head_.restrict_when, "provision anew");
  }

  static void must_be_as(const char* field, const std::string& asked, const std::string& held,
                         const char* advice) {
    if (asked.empty() || asked == held) return;
    throw LedgerError{ErrorCode::kConflict,
                      fmt::format("{} differs from the line's, {}: {}", field, advice, held)};
  }

  // It says where the session is to be looked for, and changes nothing else.
  void note_nas() {
    if (operation_ != Operation::kAllocate || nas_ip_.empty() || !head_.nas_ip.empty()) return;
    if (supposed_ != nullptr) return supposed_->take_names(nas_ip_, "");
    tx_.exec_params("UPDATE services SET nas_ip = $2 WHERE id = $1", head_.id, nas_ip_);
  }

  // What a change asks for is not what there is.
  bool differs(const Row* row, const std::string& family) const {
    if (!request_.username().empty() && request_.username() != head_.username) return true;
    if (!nas_ip_.empty() && nas_ip_ != head_.nas_ip) return true;
    if (!request_.plan().empty() && request_.plan() != head_.plan) return true;
    if (operation_ != Operation::kReaddress || row == nullptr) return false;
    return requested(family).empty() || requested(family) != row->address;
  }

  Plan consult_table() {
    moving_.clear();
    left_out_.clear();
    std::vector<std::string> held_back;  // suspended already: they get the hold as well
    for (const std::string& family : families_) {
      try {
        const Row* row = find_row(rows_, family);
        if (row != nullptr && other_generation(*row)) continue;
        const auto state = row == nullptr ? std::nullopt : std::optional{row->state};
        const Verdict verdict = domain::check(operation_, state);
        if (verdict.kind == Verdict::Kind::kRefuse)
          throw LedgerError{verdict.code, domain::refusal(operation_, state)};
        if (guard(verdict, row, family)) {
          moving_.push_back(family);
        } else if (verdict.guard == Guard::kAddsHold) {
          held_back.push_back(family);
        }
      } catch (const LedgerError& error) {
        if (family != request_.optional_family() || error.retryable()) throw;
        left_out_ = family + " is left out: " + error.what();
      }
    }
    if (!moving_.empty()) {
      moving_.insert(moving_.end(), held_back.begin(), held_back.end());
      return Plan::kMove;
    }
    if (!former_missing_.empty()) throw LedgerError{ErrorCode::kIllegalTransition, former_missing_};
    for (const std::string& family : held_back) add_hold(family);
    if (!left_out_.empty()) message_ = left_out_;
    return Plan::kNothing;
  }

  void add_hold(const std::string& family) {
    const std::string reason =
        request_.caller().reason().empty() ? "operator" : request_.caller().reason();
    if (supposed_ != nullptr) return supposed_->add_hold(family, reason);
    tx_.exec_params(
        "INSERT INTO holds (service_id, tenant_id, family, reason, actor)"
        " VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
        head_.id, service_.tenant_id(), family, reason, request_.caller().actor());
  }

  // A late revoke never kills the next generation, nor what another composition created.
  bool other_generation(const Row& row) {
    if (request_.has_generation() && request_.generation() != row.generation) {
      message_ = fmt::format("the binding is of generation {}, not {}", row.generation,
                             request_.generation());
      return true;
    }
    if (!request_.only_created_by().empty() && request_.only_created_by() != row.created_by) {
      message_ = "the binding was not created by " + request_.only_created_by();
      return true;
    }
    return false;
  }

  std::string requested(std::string_view family) const {
    return family == domain::kFamilyIpv4 ? request_.requested_address()
                                         : request_.requested_prefix();
  }

  void must_be_requested(const Row& row) const {
    const bool ipv4 = row.family == domain::kFamilyIpv4;
    const std::string wanted = requested(row.family);
    if (!wanted.empty() && wanted != row.address) {
      throw LedgerError{ErrorCode::kConflict,
                        std::string{ipv4 ? "requested_address" : "requested_prefix"} +
                            " differs from the one held: " + row.address};
    }
    const int size = ipv4 ? 0 : request_.ipv6_pd_size();
    if (size != 0 && !row.address.ends_with(fmt::format("/{}", size)))
      throw LedgerError{ErrorCode::kConflict,
                        "ipv6_pd_size differs from the one held: " + row.address};
  }

  bool holds_former_space(const std::string& family) {
    return !tx_.exec_params(
                   "SELECT 1 FROM holdings WHERE service_id = $1 AND family = $2"
                   " AND upper_inf(period) AND releasing LIMIT 1",
                   head_.id, family)
                .empty();
  }

  // True when there is something to do.
  bool guard(const Verdict& verdict, const Row* row, const std::string& family) {
    switch (verdict.guard) {
      case Guard::kSameRequest:
        if (row != nullptr) must_be_requested(*row);
        if (wanted_username() != username_now()) {
          throw LedgerError{ErrorCode::kConflict,
                            "username differs from the line's, rebind it: " + username_now()};
        }
        return false;
      case Guard::kAddsHold: return verdict.kind != Verdict::Kind::kRepeat;
      case Guard::kHoldsNothing:
        if (row != nullptr && row->space_held) {
          throw LedgerError{
              ErrorCode::kIllegalTransition,
              "allocate is not possible: the failed binding still holds " + row->address};
        }
        break;
      case Guard::kSpaceHeld: return row != nullptr && row->space_held;
      case Guard::kOtherValue:
        if (!differs(row, family)) return false;
        if (operation_ == Operation::kReaddress) check_other_space(*row, family);
        return true;
      case Guard::kFormerSpace:
        if (holds_former_space(family)) return true;
        former_missing_ = domain::refusal(operation_, row->state);
        return false;
      case Guard::kNone:
      case Guard::kNextGeneration:
      case Guard::kSameHolder:
      case Guard::kLastHold:
      case Guard::kRunsStepAgain:
      case Guard::kNamedState: break;
    }
    if (verdict.kind != Verdict::Kind::kMove) return false;
    if (operation_ == Operation::kAllocate) check_space(row, family);
    // What takes something away is never refused on the profile's account.
    if (operation_ == Operation::kActivate && family == domain::kFamilyIpv6Pd)
      check_assignment_mode(tx_, service_);
    return true;
  }

  void check_other_space(const Row& row, const std::string& family) {
    if (family == domain::kFamilyIpv6Pd) check_assignment_mode(tx_, service_);
    Wish wish = wish_for(family);
    stay_in_pool(tx_, wish, row, head_.nas_ip);
    check_requested(tx_, wish);
  }

  // What can be known to be wrong is refused before anything is changed.
  void check_space(const Row* row, const std::string& family) {
    if (family == domain::kFamilyIpv6Pd) check_assignment_mode(tx_, service_);
    const Wish wish = wish_for(family);
    if (row != nullptr && row->space_held) {
      must_be_requested(*row);
      if (takes_up_again(tx_, *row, wish)) return;
    }
    check_requested(tx_, wish);
  }

  Wish wish_for(const std::string& family) const {
    const bool ipv4 = family == domain::kFamilyIpv4;
    return {.family = family,
            .prefix_length = ipv4 ? 0 : request_.ipv6_pd_size(),
            .pool = ipv4 ? request_.ipv4_pool_id() : request_.ipv6_pool_id(),
            .requested = requested(family),
            .service_id = head_.id,
            .nas_ip = nas_ip_.empty() ? nas_address(tx_, head_.nas_ip) : nas_ip_};
  }

  v1::ClaimReply base_reply() {
    v1::ClaimReply reply;
    *reply.mutable_pace() = settings_.pace;
    *reply.mutable_view() = supposed_ == nullptr ? read_view(tx_, service_) : supposed_->view;
    return reply;
  }

  void fill_claim(v1::ClaimReply& reply, std::int64_t operation, std::int64_t number) {
    reply.set_outcome("claimed");
    *reply.mutable_claim()->mutable_service() = service_;
    reply.mutable_claim()->set_number(number);
    reply.mutable_claim()->set_operation_id(operation);
    for (const std::string& family : moving_) reply.add_families(family);
    reply.set_left_out(left_out_);
    // An older packet that may still be under way is answered by stating the present condition.
    // The claim itself supersedes what is still open; a look has not done so.
    const char* superseded =
        supposed_ == nullptr ? "{superseded}" : "{superseded,planned,sent,unknown}";
    const auto wait = late_packet_ms(tx_, head_.id, number, superseded);
    reply.set_restate(wait.has_value());
    reply.set_restate_after_ms(wait.value_or(0));
  }

  v1::ClaimReply nothing() {
    note_nas();
    v1::ClaimReply reply = base_reply();
    reply.set_outcome("nothing");
    *reply.mutable_result() =
        answer_from(reply.view(), request_.operation(), families_,
                    message_.empty() ? "nothing to do: it is so already" : message_);
    if (auto unheard = answer_unheard()) *reply.mutable_result() = *std::move(unheard);
    if (supposed_ != nullptr) return reply;
    const auto id = insert_operation(head_.number, "finished");
    tx_.exec_params(
        "UPDATE operations SET outcome = $2::jsonb, finished_at = clock_timestamp() WHERE id = $1",
        id, v1::to_json_text(reply.result()));
    audit("nothing");
    return reply;
  }

  // It is so because the same was asked for before, and the run that did it was lost before it
  // could say so: the answer is the one that nobody has heard.
  std::optional<v1::LifecycleResult> answer_unheard() {
    const auto found = tx_.exec_params(
        "SELECT outcome::text FROM operations WHERE id = $1 AND resumed AND phase = 'finished'"
        " AND operation = $2 AND request_hash = $3",
        head_.last_operation, request_.operation(), request_.request_hash());
    if (found.empty()) return std::nullopt;
    v1::LifecycleResult result;
    const auto json = nlohmann::json::parse(found[0][0].c_str());
    if (!v1::from_json(json, result) || !result.success()) return std::nullopt;
    return result;
  }

  // An operation whose run is gone: what it created is undone, what it moved stays and is the base
  // of this one.
  void settle_open_operation() {
    if (head_.open_operation == 0) return;
    if (supposed_ != nullptr) {
      throw LedgerError{ErrorCode::kUnavailable,
                        "another operation of this service is under way: plan when it is over"};
    }
    static_cast<void>(undo_operation(tx_, service_, head_, head_.open_operation, head_.number));
    v1::LifecycleResult result;
    result.set_code(text(domain::to_string(ErrorCode::kSuperseded)));
    result.set_message("a newer request took the service over");
    tx_.exec_params(
        "UPDATE operations SET phase = 'finished', outcome = $2::jsonb,"
        " finished_at = clock_timestamp() WHERE id = $1",
        head_.open_operation, v1::to_json_text(result));
    rows_ = read_rows(tx_, head_.id);
    if (consult_table() == Plan::kNothing) {
      throw LedgerError{ErrorCode::kUnavailable, "the service changed meanwhile"};
    }
    head_ = read_head(tx_, service_, Lock::kYes).value();  // with the names that it had before
  }

  v1::ClaimReply claim() {
    const std::int64_t number = head_.number + 1;
    if (supposed_ != nullptr) {
      take_username();
      supposed_->take_names(nas_ip_, request_.plan(), request_.restrict_when());
      supposed_->head.number = number;
      v1::ClaimReply reply = base_reply();
      fill_claim(reply, 0, number);
      return reply;
    }
    left_ = left_username();
    const std::int64_t id = insert_operation(number, "open");
    take_username();
    // What an older transition wished of AAA and the session is this one's to say now.
    tx_.exec_params(
        fmt::format("UPDATE effects e SET status = 'superseded', updated_at = clock_timestamp()"
                    " WHERE e.service_id = $1 AND e.system IN ('aaa', 'radius') AND e.number < $2"
                    " AND {}",
                    kUnconfirmed),
        head_.id, number);
    tx_.exec_params(
        "UPDATE services SET number = $2, open_operation_id = $3, last_operation_id = $3,"
        " plan = CASE WHEN $4 = '' THEN plan ELSE $4 END,"
        " nas_ip = CASE WHEN $5 = '' THEN nas_ip ELSE $5 END,"
        " restrict_when = CASE WHEN $6 = '' THEN restrict_when ELSE $6 END WHERE id = $1",
        head_.id, number, id, request_.plan(), nas_ip_, request_.restrict_when());
    v1::ClaimReply reply = base_reply();
    fill_claim(reply, id, number);
    audit("claimed");
    return reply;
  }

  std::int64_t insert_operation(std::int64_t number, const std::string& phase) {
    const auto made = tx_.exec_params(
        "INSERT INTO operations (tenant_id, subscriber_id, service, service_id, key, request_hash,"
        " operation, request, number, phase, actor, reason, workflow_id, run_id, before, families,"
        " left_out) VALUES ($1, $2, $3, $4, $5, $6, $7, $8::jsonb, $9, $10, $11, $12, $13, $14,"
        " $15::jsonb, $16::text[], $17)"
        " RETURNING id",
        service_.tenant_id(), service_.subscriber_id(), service_.service(), head_.id,
        request_.caller().key(), request_.request_hash(), request_.operation(),
        request_.request_json().empty() ? "{}" : request_.request_json(), number, phase,
        request_.caller().actor(), request_.caller().reason(), request_.workflow_id(),
        request_.run_id(), before(), array_of(moving_.empty() ? families_ : moving_), left_out_);
    return made[0][0].as<std::int64_t>();
  }

  // What an undo brings back: the service as it was before this claim. `left`: username_leaving.
  std::string before() {
    const auto found = tx_.exec_params(
        "SELECT jsonb_build_object('username', $2::text, 'nas_ip', $3::text, 'plan', $4::text,"
        " 'restrict_when', $5::text, 'left', $6::text, 'former_usernames',"
        " (SELECT to_jsonb(former_usernames) FROM services WHERE id = $1),"
        " 'rows', coalesce((SELECT jsonb_agg(jsonb_build_object('id', id,"
        " 'state', lifecycle_state, 'activated', lifecycle_activated_at,"
        " 'suspended', lifecycle_suspended_at, 'revoked', lifecycle_revoked_at,"
        " 'revoking', revoking_since, 'kept', coalesce((SELECT h.kept FROM holdings h"
        " WHERE h.id = holding_id), false))) FROM ip_reservations WHERE service_id = $1), '[]'),"
        " 'holds', coalesce((SELECT jsonb_agg(jsonb_build_object('reason', reason,"
        " 'family', family, 'actor', actor, 'since', since)) FROM holds WHERE service_id = $1), "
        "'[]'))::text",
        head_.id, left_.empty() ? head_.username : left_, head_.nas_ip, head_.plan,
        head_.restrict_when, left_);
    return found[0][0].c_str();
  }

  void audit(const std::string& detail) {
    const Row* row = find_row(rows_, families_.front());
    write_audit(tx_, service_, request_.operation(), request_.caller().actor(),
                row == nullptr ? "" : row->address, row == nullptr ? "" : row->pool_id, "ok",
                detail);
  }

  Tx& tx_;
  const v1::ClaimRequest& request_;
  const Settings& settings_;
  const ServiceRef service_;
  Operation operation_ = Operation::kAllocate;
  std::vector<std::string> families_;  // that are meant
  std::vector<std::string> moving_;    // that something is done to
  std::string left_out_;               // why the optional one is not among them
  std::string left_;                   // the username that it had
  std::string nas_ip_;                 // the NAS that is named, by its own address
  std::string former_missing_;         // why there is nothing to force
  Head head_;
  std::vector<Row> rows_;
  std::string message_;
  Supposed* supposed_;
};

}  // namespace

v1::ClaimReply look_at_claim(Tx& tx, const v1::ClaimRequest& request, const Settings& settings,
                             Supposed& supposed) {
  return Claiming{tx, request, settings, &supposed}.run();
}

v1::ClaimReply Ledger::claim(const v1::ClaimRequest& request) {
  const ServiceRef service = checked(request.service());
  try {
    return watched([&] {
      return store_->as_tenant(service.tenant_id(), [&](Tx& tx) {
        guard(tx);
        return Claiming{tx, request, settings_}.run();
      });
    });
  } catch (const LedgerError& error) {
    if (!error.retryable()) refused(request, error);
    throw;
  }
}

// Refused requests are on record as well (A70).
void Ledger::refused(const v1::ClaimRequest& request, const LedgerError& error) {
  const ServiceRef service = checked(request.service());
  try {
    store_->as_tenant(service.tenant_id(), [&](Tx& tx) {
      write_audit(tx, service, request.operation() + " refused", request.caller().actor(), "", "",
                  text(domain::to_string(error.code())), error.what());
      return true;
    });
  } catch (const LedgerError&) {
    // The refusal is the answer; that it could not be put on record changes nothing of it.
  }
}

v1::FinishReply Ledger::finish(const v1::FinishRequest& request) {
  const ServiceRef service = checked(request.claim().service());
  const std::int64_t operation = request.claim().operation_id();
  return store_->as_tenant(service.tenant_id(), [&](Tx& tx) {
    v1::FinishReply reply;
    const auto head = read_head(tx, service, Lock::kYes);
    const auto found =
        tx.exec_params("SELECT phase, outcome::text FROM operations WHERE id = $1", operation);
    if (!head || found.empty())
      throw LedgerError{ErrorCode::kNotFound, "claim.operation_id is not known"};
    if (std::string{found[0][0].c_str()} == "finished") {
      const auto json = nlohmann::json::parse(found[0][1].c_str());
      if (const auto read = v1::from_json(json, *reply.mutable_result()); !read)
        throw LedgerError{ErrorCode::kInternal, "the recorded answer cannot be read"};
      return reply;
    }
    static_cast<void>(fenced_head(tx, request.claim()));
    tx.exec_params("UPDATE services SET open_operation_id = NULL WHERE id = $1", head->id);
    const v1::LifecycleResult told =
        answer_from(read_view(tx, service), request.result().operation(),
                    families_of(tx, operation), request.result().message());
    v1::LifecycleResult result = request.result();
    result.set_address(told.address());
    result.set_prefix(told.prefix());
    result.set_state(told.state());
    *result.mutable_service_view() = told.service_view();
    v1::show_bindings(result, told.service_view(), families_of(tx, operation));
    tx.exec_params(
        "UPDATE operations SET phase = 'finished', outcome = $2::jsonb,"
        " finished_at = clock_timestamp() WHERE id = $1",
        operation, v1::to_json_text(result));
    write_audit(tx, service, result.operation() + " finished", "", result.address(), "",
                result.code(), result.message());
    *reply.mutable_result() = std::move(result);
    return reply;
  });
}

}  // namespace addrflow::ledger
