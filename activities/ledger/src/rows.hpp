// What the activities share: the head row with its fence, steps on record, effects, holdings.
#pragma once

#include <addrflow/v1/activities.pb.h>
#include <addrflow/domain/errors.hpp>
#include <addrflow/domain/state.hpp>
#include <addrflow/ledger/error.hpp>
#include <addrflow/v1/json.hpp>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <pqxx/pqxx>
#include <string>
#include <string_view>
#include <vector>

namespace addrflow::ledger {

using Tx = pqxx::dbtransaction;
using domain::ErrorCode;
using domain::State;
using v1::ServiceRef;

// Throws `invalid_argument` naming the field; fills in the default service.
ServiceRef checked(const ServiceRef& service);

struct Head {
  std::int64_t id = 0;
  std::int64_t number = 0;
  std::int64_t open_operation = 0;  // 0: none
  std::int64_t last_operation = 0;
  std::int64_t generation = 0;
  std::string username;
  std::string nas_ip;
  std::string plan;
  std::string restrict_when;  // any, all
};

struct Row {
  std::int64_t id = 0;
  std::string family;
  State state = State::kPending;
  std::string address;  // a delegated prefix with its length
  std::string pool_id;
  std::int64_t generation = 0;
  std::int64_t holding_id = 0;
  std::int64_t created_by_operation = 0;
  std::string created_by;
  bool space_held = false;
  bool kept = false;
};

enum class Lock { kNo, kYes };
std::optional<Head> read_head(Tx& tx, const ServiceRef& service, Lock lock);
// The address that a known NAS goes by: its own, also for one that its packets merely come from.
std::optional<std::string> known_nas(Tx& tx, const std::string& nas_ip);
// The same, and one that is not known as it is.
std::string nas_address(Tx& tx, const std::string& nas_ip);
// The newest row of each family; one that is not revoked stands before all others.
std::vector<Row> read_rows(Tx& tx, std::int64_t service_id);
const Row* find_row(const std::vector<Row>& rows, std::string_view family);
// Alias r, parameter $2: allocated for longer than so many hours, which makes it a leak (A57).
inline constexpr const char* kAllocatedTooLong =
    "r.lifecycle_state = 'allocated'"
    " AND r.lifecycle_allocated_at < clock_timestamp() - $2::bigint * interval '1 hour'"
    " AND (r.grace_until IS NULL OR r.grace_until < clock_timestamp())";
// Of a row that begins with id, system, action, status, attempts, code, detail and, as text, the
// time of its change.
v1::EffectView read_effect(const pqxx::row& row);
// Of one family; empty: the reasons of all of them.
std::vector<std::string> read_holds(Tx& tx, std::int64_t service_id, std::string_view family = {});
// What an operation moves.
std::vector<std::string> families_of(Tx& tx, std::int64_t operation);
// A PostgreSQL array of words that need no quotes, and back.
std::string array_of(const std::vector<std::string>& words);
std::vector<std::string> words_of(std::string_view array);

// Locks the head row and checks number and operation. Throws `superseded`.
enum class Fence { kOpenOperation, kNumberOnly };
Head fenced_head(Tx& tx, const v1::Claim& claim, Fence fence = Fence::kOpenOperation);

// --- steps on record
template <class Message>
std::optional<Message> recorded_step(Tx& tx, std::int64_t operation, const std::string& step) {
  const auto found = tx.exec_params(
      "SELECT reply::text FROM operation_steps WHERE operation_id = $1 AND step = $2", operation,
      step);
  if (found.empty()) return std::nullopt;
  Message message;
  const auto json = nlohmann::json::parse(found[0][0].c_str());
  if (const auto read = v1::from_json(json, message); !read)
    throw LedgerError{ErrorCode::kInternal,
                      "a recorded step cannot be read: " + read.error().message};
  return message;
}
void record_step(Tx& tx, const std::string& tenant, std::int64_t operation, const std::string& step,
                 const google::protobuf::Message& reply);

// --- effects
// Alias e: not confirmed yet, and pursued until it is, or until a person gives it up (R5). Refused
// for good is not among them: nobody pursues that, but it is shown (desk.cpp, view.cpp) and settled
// (gate.cpp, undo.cpp) like the others. As the partial indexes of migrations 0016 and 0020 say it,
// so that PostgreSQL finds such rows by them.
inline constexpr const char* kUnconfirmed =
    "(e.status IN ('planned', 'sent', 'unknown')"
    " OR (e.status = 'refused' AND coalesce((e.reply->>'retry')::boolean, false)))";
// The condition that the ledger's rows stand for: full, restricted or refused, with the space that
// the session is to have. A line is one session, whichever families it has.
nlohmann::json session_wish(Tx& tx, const ServiceRef& service, std::int64_t service_id);
// What of a service says that; a plan supposes other facts than there are.
struct SessionFacts {
  std::string username;
  std::vector<std::string> former_usernames;  // that are nobody else's by now
  std::vector<std::string> left_usernames;    // all of them
  std::string nas_ip;
  std::string plan;
  std::string restrict_when;
  std::vector<Row> rows;
};
SessionFacts read_session_facts(Tx& tx, std::int64_t service_id);
nlohmann::json session_wish(const ServiceRef& service, const SessionFacts& facts);
// The same for AAA. It knows itself whose a name's rows are, and what it still admits of the line's
// own is to go also where the ledger has given the name to somebody else.
nlohmann::json aaa_wish(nlohmann::json wish, const std::vector<std::string>& left_usernames);
v1::EffectRef plan_effect(Tx& tx, const ServiceRef& service, std::int64_t service_id,
                          std::int64_t operation, std::int64_t number, const std::string& system,
                          const std::string& action, const std::string& object,
                          const nlohmann::json& wish);
// One row as NetBox is to show it.
struct NetboxFacts {
  std::string mode;  // of the pool: mirror, authoritative, off
  std::string key;
  std::string space;
  std::string family;
  std::string state;
  int prefix_length = 0;
  std::int64_t vrf_id = 0;
  std::int64_t netbox_id = 0;
  std::string pool_id;
  std::int64_t pool_netbox_id = 0;
  bool taken_over = false;  // the object with this id was made by the platform before us
};
// What is asked of NetBox (ports/effect_journal.hpp).
nlohmann::json netbox_wish(const ServiceRef& service, const NetboxFacts& facts,
                           const std::string& action);
std::string netbox_key(const ServiceRef& service, std::string_view family, std::string_view space);
std::optional<NetboxFacts> read_netbox_facts(Tx& tx, std::int64_t row_id);
// How long an older request for the same NetBox object may still arrive.
std::int64_t unsettled_ms(Tx& tx, std::int64_t service_id, const std::string& object,
                          std::int64_t effect_id);
// What was last asked of the service is to be done without NetBox (update_netbox); an operator's
// step goes on with what was asked.
bool leaves_netbox_alone(Tx& tx, std::int64_t service_id, std::int64_t operation);
// Of one row; unset (0) where the pool has no NetBox, or where it is left alone (not_applicable).
v1::EffectRef plan_netbox(Tx& tx, const ServiceRef& service, std::int64_t service_id,
                          std::int64_t operation, std::int64_t number, std::int64_t row_id,
                          const std::string& action);

enum class Owing {
  kNow,
  kOnceAllIsSuperseded,  // with what is still open, as the next claim will leave it
};
// An older AAA or RADIUS effect that nobody confirmed before it was superseded.
bool owes(Tx& tx, std::int64_t service_id, const std::string& system, Owing owing = Owing::kNow);

// How long a CoA of a number below this one, in one of these states ("{…}"), may still leave its
// sender; none: nothing may, or the session was told since.
std::optional<std::int64_t> late_packet_ms(Tx& tx, std::int64_t service_id, std::int64_t number,
                                           const std::string& statuses);

// What older transitions left undone: AAA, the session's condition, a Disconnect, its new space.
struct Owed {
  bool aaa = false;
  bool radius = false;
  bool cut = false;
  bool renumber = false;
};
// What an older transition could not cut is still to be cut: the session of a family that is on its
// way out while the line lives on with another, or one under a name or on a NAS that the line has
// left. The next login takes the rows as they are now.
bool cut_is_owed(Tx& tx, std::int64_t service_id, const std::vector<Row>& rows,
                 const std::vector<std::string>& moved, std::int64_t undone = 0);
// A session that has not been told of the line's other space. What the operation `undone` planned
// and did not send is no debt.
bool renumbering_is_owed(Tx& tx, std::int64_t service_id, std::int64_t undone = 0);
struct WantedEffects {
  bool aaa = false;
  std::string radius;  // "", "coa", "disconnect"
};
// What a move to `to` writes down, with the wishes before and after it.
WantedEffects wanted_effects(const v1::TransitionRequest& request, State to,
                             const nlohmann::json& before, const nlohmann::json& wish,
                             const Owed& owed);
// What the line was called, and where it hung, before the operation.
struct FormerNames {
  std::string username;
  std::string nas_ip;
};
FormerNames names_before(Tx& tx, const ServiceRef& service, std::int64_t operation);
// The wish of the packet: what it is to do beside stating the condition.
// The wish, with the other plans that a session of the line may have got, by a login or a packet,
// since the last packet that was answered: that one has stated all of the condition. An older
// packet that nobody has answered may have come after it.
nlohmann::json with_plans_left(Tx& tx, std::int64_t service_id, nlohmann::json wish);
nlohmann::json packet_wish(const v1::TransitionRequest& request, nlohmann::json wish,
                           const FormerNames& former, const Owed& owed);

// What NetBox is told of the row's space, which was in state `before`; empty: nothing.
std::string object_action(const v1::TransitionRequest& request, const Row& row,
                          std::optional<State> before);

// --- holdings
// Ends the holding now and puts its space back: free after `quarantine_s` for anybody, at once for
// the former holder. Space that was excluded meanwhile stays out. (allocator.cpp)
void close_holding(Tx& tx, std::int64_t holding_id, std::int64_t operation,
                   const std::string& evidence, std::int64_t quarantine_s);

v1::ServiceView read_view(Tx& tx, const ServiceRef& service);

void write_audit(Tx& tx, const ServiceRef& service, const std::string& event,
                 const std::string& actor, const std::string& address, const std::string& pool_id,
                 const std::string& code, const std::string& detail);

// The key of a family's space in `session_wish`.
std::string wish_key(std::string_view family);

// Undoes what an operation created, and brings back what it changed. The head row is locked.
v1::UndoReply undo_operation(Tx& tx, const ServiceRef& service, const Head& head,
                             std::int64_t operation, std::int64_t number);
bool is_undone(Tx& tx, std::int64_t operation);
// A packet with the present condition, after the undo of the operation that was to state its own.
v1::EffectRef restate_undone(Tx& tx, const ServiceRef& service, const Head& head,
                             std::int64_t operation, std::int64_t number);
// The undo of what it created of one family; the rest of it goes on.
v1::UndoReply undo_family(Tx& tx, const ServiceRef& service, const Head& head,
                          std::int64_t operation, std::int64_t number, const std::string& family);

// R24: a profile that has no delegated prefix refuses one.
void check_assignment_mode(Tx& tx, const ServiceRef& service);
// Throws `no_such_tenant`.
void must_have_tenant(Tx& tx, const std::string& tenant);

inline std::string text(std::string_view view) { return std::string{view}; }

}  // namespace addrflow::ledger
