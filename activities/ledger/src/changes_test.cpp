// Lines that change as they live: another NAS, username, plan or space, of either family.
#include <gmock/gmock.h>
#include <addrflow/v1/json.hpp>
#include <algorithm>

#include "ledger_fixture.hpp"

namespace addrflow::ledger {
namespace {

using std::chrono::seconds;
using std::chrono::system_clock;

class ChangesTest : public EitherFamilyTest {
 protected:
  void SetUp() override {
    LedgerTest::SetUp();
    if (IsSkipped()) return;
    add_space("main", "198.51.100.0/24", "2001:db8::/40");
    for (const char* nas : {"192.0.2.1", "192.0.2.2"}) ledger->add_nas(nas_record(nas));
  }

  v1::ClaimRequest ask_for(const std::string& operation, const std::string& key) const {
    v1::ClaimRequest request = ask(operation, "s", key);
    request.clear_username();
    request.add_families(family());
    return request;
  }
  v1::ReserveReply take(const v1::Claim& claim, bool instead, const std::string& wanted = {}) {
    v1::ReserveRequest request;
    *request.mutable_claim() = claim;
    request.set_family(family());
    request.set_instead(instead);
    request.set_requested_address(wanted);
    return ledger->reserve(request);
  }

  // An active line on the first NAS, its session told.
  std::string bring_up(const std::string& plan = {}) {
    auto request = ask_for("allocate", "a");
    request.set_nas_ip("192.0.2.1");
    request.set_username(tenant + "-s");
    request.set_plan(plan);
    const auto claimed = ledger->claim(request);
    const auto reserved = take(claimed.claim(), false);
    const auto moved = ledger->transition(move(claimed.claim(), "allocated"));
    send(claimed.claim(), moved.aaa());
    finish(claimed.claim());
    const auto active = ledger->claim(ask_for("activate", "b"));
    send(active.claim(), ledger->transition(move(active.claim(), "active")).aaa());
    finish(active.claim());
    return reserved.address();
  }

  // The claim of a change and its move; nothing is sent yet.
  v1::TransitionReply change(const v1::ClaimRequest& request, const std::string& radius,
                             bool spare = false) {
    claim = ledger->claim(request).claim();
    return change(radius, spare);
  }
  v1::TransitionReply change(const std::string& radius, bool spare = false, bool renumber = false) {
    auto wanted = move(claim, "active");
    wanted.set_keep_state(true);
    wanted.set_plan_radius(radius);
    wanted.set_spare_nas(spare);
    wanted.set_renumber(renumber);
    return ledger->transition(wanted);
  }
  v1::ClaimRequest rename(const std::string& key, const std::string& name) const {
    auto request = ask_for("rebind", key);
    request.set_username(tenant + name);
    return request;
  }
  v1::ClaimRequest of(const std::string& operation, const std::string& subscriber,
                      const std::string& name) const {
    auto request = ask(operation, subscriber, operation + name);
    request.add_families(family());
    request.set_username(name);
    return request;
  }
  v1::ClaimRequest of_eve(const std::string& name, const std::string& key) const {
    auto request = ask("allocate", "eve", key);
    request.add_families(family());
    request.set_username(name);
    return request;
  }
  // The time of every packet that nobody has answered is over, and was before the next one's.
  void no_packet_is_late() {
    sql(
        fmt::format("UPDATE effects SET hard_deadline = planned_at WHERE tenant_id = '{}'"
                    " AND hard_deadline IS NOT NULL",
                    tenant));
  }
  // Whether another line would get the name.
  bool is_free(const std::string& name) {
    const auto own =
        sql(fmt::format("SELECT username_taken(0, '{0}') OR username_leaving(0, '{0}')", name));
    return !own[0][0].as<bool>();
  }
  void give_to_eve(const std::string& name) {
    const auto taken = ledger->claim(of_eve(name, "e")).claim();
    take(taken, false);
    ledger->transition(move(taken, "allocated"));
    finish(taken);
  }
  // Other space, up to where AAA has it and the session has been told.
  std::string readdress(const std::string& key, const std::string& radius = "coa",
                        const std::string& code = "ack", const std::string& nas = {}) {
    auto request = ask_for("readdress", key);
    request.set_nas_ip(nas);
    claim = ledger->claim(request).claim();
    const auto reserved = take(claim, true);
    const auto moved = change(radius, false, true);
    send(claim, moved.aaa());
    send(claim, moved.radius(), code, code == "timeout" ? "unknown" : "confirmed");
    finish(claim);
    return reserved.address();
  }

  void suspend(const std::string& code = "ack") {
    claim = ledger->claim(ask_for("suspend", "suspend")).claim();
    auto wanted = move(claim, "suspended");
    wanted.set_add_hold("billing");
    wanted.set_plan_radius("coa");
    const auto moved = ledger->transition(wanted);
    send(claim, moved.aaa());
    send(claim, moved.radius(), code, code == "timeout" ? "unknown" : "confirmed");
    finish(claim);
  }

  v1::UndoReply undo() {
    v1::UndoRequest request;
    *request.mutable_claim() = claim;
    request.set_code("aaa_failed");
    v1::UndoReply reply = ledger->undo(request);
    return reply;
  }
  v1::GateReply look() {
    v1::GateRequest request;
    *request.mutable_service() = service("s");
    request.set_number(claim.number());
    request.add_families(family());
    return ledger->gate(request);
  }

  nlohmann::json wish(const v1::EffectRef& effect) {
    const auto found =
        sql(fmt::format("SELECT wish::text FROM effects WHERE id = {}", effect.effect_id()));
    return nlohmann::json::parse(found[0][0].c_str());
  }
  std::string space_of(const v1::EffectRef& effect) {
    return wish(effect).at(ipv4() ? "framed_ip" : "delegated_prefix").get<std::string>();
  }
  v1::BindingView binding() {
    const auto view = ledger->view(service("s"));
    for (const auto& one : view.bindings()) {
      if (one.family() == family()) return one;
    }
    return {};
  }
  std::string space() { return ipv4() ? binding().address() : binding().prefix(); }
  std::string holdings() {
    return sql(
               fmt::format("SELECT coalesce(string_agg(abbrev(space) || CASE WHEN releasing THEN"
                           " ' leaves' ELSE '' END, ', ' ORDER BY id), '') FROM holdings"
                           " WHERE tenant_id = '{}' AND upper_inf(period)",
                           tenant))[0][0]
        .c_str();
  }
  ports::Session session(const std::string& shown, seconds started, seconds updated) const {
    ports::Session session;
    session.username = tenant + "-s";
    session.nas_ip = "192.0.2.1";
    (ipv4() ? session.framed_ip : session.delegated_prefix) = shown;
    session.started = system_clock::now() + started;
    session.updated = system_clock::now() + updated;
    return session;
  }

  v1::Claim claim;
};

INSTANTIATE_TEST_SUITE_P(Families, ChangesTest, ::testing::Values("ipv4", "ipv6_pd"),
                         [](const auto& one) { return one.param; });

// --- other space ---------------------------------------------------------------------------------

TEST_P(ChangesTest, OtherSpaceIsHeldBeforeTheFormerOneIsLetGo) {
  const auto former = bring_up();
  const auto other = readdress("r");
  EXPECT_NE(other, former);
  EXPECT_EQ(holdings(), former + " leaves, " + other);
  EXPECT_EQ(space(), other);
  EXPECT_EQ(binding().state(), "active");
  EXPECT_TRUE(binding().has_activated_at());
  ASSERT_EQ(ledger->view(service("s")).leaving_size(), 1);
  expect_clean();

  sessions.seen.stopped_since = true;
  const auto opened = look();
  EXPECT_TRUE(opened.open());
  EXPECT_EQ(opened.evidence(), "strong");
  EXPECT_EQ(holdings(), other);
  EXPECT_EQ(binding().state(), "active");
  EXPECT_EQ(ledger->view(service("s")).leaving_size(), 0);
  expect_clean();
}

TEST_P(ChangesTest, SpaceThatASessionStillShowsStaysHeldEvenWhenTheHoldTimeIsOver) {
  const auto former = bring_up();
  readdress("r");
  sessions.seen.stopped_since = true;  // of some other session
  sessions.seen.open = {session(former, seconds{-900}, seconds{1})};
  EXPECT_FALSE(look().open());
  sql(
      fmt::format("UPDATE ip_pools SET hold_time_s = 0 WHERE id IN (SELECT pool_id FROM holdings"
                  " WHERE tenant_id = '{}')",
                  tenant));
  EXPECT_THAT(look().detail(), ::testing::HasSubstr("a session that is alive shows it"));
  EXPECT_THAT(holdings(), ::testing::HasSubstr(former + " leaves"));
  // Not heard of for long: it is over by then, whatever its row says.
  sessions.seen.open = {session(former, seconds{-90'000}, seconds{-90'000})};
  EXPECT_EQ(look().evidence(), "hold_time");
  EXPECT_EQ(binding().state(), "active");
}

TEST_P(ChangesTest, ASessionThatWasRenumberedIsProofOnceItsFloorIsOver) {
  settings.longest_lease = seconds{0};
  ledger = std::make_unique<Ledger>(settings, &sessions);
  bring_up();
  const auto other = readdress("r");
  sessions.seen.nas_last_heard = system_clock::now() + seconds{3'600};
  sessions.seen.open = {session(other, seconds{-900}, seconds{1})};
  EXPECT_THAT(look().detail(), ::testing::HasSubstr("the floor"));
  sql(
      fmt::format("UPDATE effects SET updated_at = updated_at - interval '1 hour' WHERE"
                  " system = 'radius' AND tenant_id = '{}'",
                  tenant));
  EXPECT_EQ(look().evidence(), "medium");
}

TEST_P(ChangesTest, ASessionThatHasNotBeenHeardOfSinceMayHaveTheFormerSpace) {
  bring_up();
  readdress("r");
  sessions.seen.nas_last_heard = system_clock::now() + seconds{3'600};
  sessions.seen.open = {session("", seconds{-900}, seconds{-300})};
  EXPECT_THAT(look().detail(), ::testing::HasSubstr("accounting shows a session"));
}

TEST_P(ChangesTest, TwoFormerSpacesOfOneLineLeaveEachByItsOwnEvidence) {
  const auto first = bring_up();
  const auto second = readdress("r1");
  const auto third = readdress("r2");
  EXPECT_EQ(holdings(), first + " leaves, " + second + " leaves, " + third);
  sessions.seen.open = {session(first, seconds{-900}, seconds{1})};
  sessions.seen.stopped_since = true;
  EXPECT_FALSE(look().open());
  EXPECT_EQ(holdings(), first + " leaves, " + third);
  sessions.seen.open.clear();
  EXPECT_TRUE(look().open());
  EXPECT_EQ(holdings(), third);
  expect_clean();
}

TEST_P(ChangesTest, ARevokeOfAReaddressedLineReleasesBothSpaces) {
  const auto former = bring_up();
  const auto other = readdress("r");
  const auto claimed = ledger->claim(ask_for("revoke", "x"));
  claim = claimed.claim();
  auto wanted = move(claim, "revoking");
  wanted.set_plan_radius("disconnect");
  const auto moved = ledger->transition(wanted);
  send(claim, moved.aaa());
  send(claim, moved.radius(), "ack");
  finish(claim);
  EXPECT_EQ(holdings(), former + " leaves, " + other + " leaves");
  sessions.seen.stopped_since = true;
  EXPECT_TRUE(look().open());
  EXPECT_EQ(holdings(), "");
  EXPECT_EQ(binding().state(), "revoked");
  expect_clean();
}

TEST_P(ChangesTest, AReaddressThatIsUndoneLeavesTheLineAsItWas) {
  const auto former = bring_up();
  const auto before = binding();
  for (const bool exposed : {false, true}) {
    claim = ledger->claim(ask_for("readdress", exposed ? "r2" : "r1")).claim();
    const auto other = take(claim, true).address();
    const auto moved = change("coa", false, true);
    if (exposed) send(claim, moved.aaa(), "aaa_failed", "refused");
    const auto undone = undo();
    if (undone.aaa().effect_id() != 0) {
      EXPECT_EQ(space_of(undone.aaa()), former);
      send(claim, undone.aaa());
    }
    finish(claim, false);
    EXPECT_EQ(space(), former);
    EXPECT_EQ(binding().state(), "active");
    EXPECT_EQ(binding().activated_at(), before.activated_at());
    // What AAA may have handed out leaves through the gate as well.
    EXPECT_EQ(holdings(), exposed ? former + ", " + other + " leaves" : former);
    expect_clean();
  }
  sessions.seen.open = {session(former, seconds{-900}, seconds{1})};
  sessions.seen.stopped_since = true;
  EXPECT_TRUE(look().open());
  EXPECT_EQ(holdings(), former);
  EXPECT_EQ(binding().state(), "active");
  expect_clean();
}

TEST_P(ChangesTest, AReaddressWhoseRunIsGoneIsUndoneByTheNextClaim) {
  const auto former = bring_up();
  claim = ledger->claim(ask_for("readdress", "r")).claim();
  take(claim, true);
  const auto next = ledger->claim(ask_for("suspend", "x"));
  EXPECT_EQ(next.outcome(), "claimed");
  finish(next.claim());
  EXPECT_EQ(space(), former);
  EXPECT_EQ(holdings(), former);
  EXPECT_EQ(code_of([&] { take(claim, true); }), ErrorCode::kSuperseded);
}

TEST_P(ChangesTest, SpaceThatNetboxCallsTakenIsPassedOverAndTheFormerOneStaysTheFormerOne) {
  const auto former = bring_up();
  claim = ledger->claim(ask_for("readdress", "r")).claim();
  const auto taken = take(claim, true).address();
  v1::ReserveRequest again;
  *again.mutable_claim() = claim;
  again.set_family(family());
  again.set_instead(true);
  again.add_avoid(taken);
  const auto other = ledger->reserve(again).address();
  EXPECT_EQ(other, ledger->reserve(again).address());  // a repeat
  EXPECT_NE(other, taken);
  EXPECT_EQ(holdings(), former + " leaves, " + other);
  EXPECT_EQ(undo().view().leaving_size(), 0);
  finish(claim, false);
  EXPECT_EQ(space(), former);
  EXPECT_EQ(holdings(), former);
}

TEST_P(ChangesTest, ARepeatedReservationOfAReaddressIsTheSameOne) {
  const auto former = bring_up();
  claim = ledger->claim(ask_for("readdress", "r")).claim();
  const auto other = take(claim, true).address();
  EXPECT_EQ(take(claim, true).address(), other);
  EXPECT_EQ(ledger->claim(ask_for("readdress", "r")).claim().number(), claim.number());
  EXPECT_EQ(holdings(), former + " leaves, " + other);
}

TEST_P(ChangesTest, ASuspendedLineGetsOtherSpaceAndStaysSuspended) {
  bring_up();
  suspend();
  const auto other = readdress("r");
  EXPECT_EQ(space(), other);
  EXPECT_EQ(binding().state(), "suspended");
  EXPECT_THAT(binding().holds(), ::testing::ElementsAre("billing"));
  expect_clean();
}

TEST_P(ChangesTest, AFullPoolOrTakenSpaceIsRefusedBeforeAnythingChanges) {
  const auto former = bring_up();
  auto same = ask_for("readdress", "same");
  ipv4() ? same.set_requested_address(former) : same.set_requested_prefix(former);
  EXPECT_EQ(ledger->claim(same).outcome(), "nothing");
  auto outside = ask_for("readdress", "outside");
  ipv4() ? outside.set_requested_address("203.0.113.9")
         : outside.set_requested_prefix("2001:db9::/56");
  EXPECT_EQ(code_of([&] { ledger->claim(outside); }), ErrorCode::kAddressOutsidePool);
  EXPECT_EQ(holdings(), former);
  EXPECT_EQ(binding().state(), "active");
}

TEST_P(ChangesTest, OtherSpaceIsOfTheSamePoolUnlessTheLineMovesToASiteWithItsOwn) {
  bring_up();
  add_space("other", "203.0.113.0/24", "2001:db9::/40");
  add_space("site", "192.0.2.128/25", "2001:dba::/40", {"192.0.2.2"});
  readdress("r1");
  EXPECT_EQ(binding().pool(), "main");
  readdress("r2", "disconnect", "ack", "192.0.2.2");
  EXPECT_EQ(binding().pool(), "site");
  EXPECT_EQ(ledger->view(service("s")).nas_ip(), "192.0.2.2");
  // A site's own space does not go along to another site.
  auto away = ask_for("move", "m");
  away.set_nas_ip("192.0.2.1");
  EXPECT_EQ(code_of([&] { ledger->claim(away); }), ErrorCode::kConflict);
}

TEST_P(ChangesTest, SpaceFallsToAnotherOnlyThroughTheGate) {
  const auto former = bring_up();
  readdress("r", "coa", "timeout");
  auto request = ask("allocate", "eve", "e");
  request.add_families(family());
  ipv4() ? request.set_requested_address(former) : request.set_requested_prefix(former);
  EXPECT_EQ(code_of([&] { ledger->claim(request); }), ErrorCode::kAddressTaken);
  EXPECT_FALSE(look().open());
  EXPECT_EQ(code_of([&] { ledger->claim(request); }), ErrorCode::kAddressTaken);
}

TEST_P(ChangesTest, APersonForcesTheFormerSpaceAndNeverTheOneInUse) {
  const auto former = bring_up();
  EXPECT_EQ(code_of([&] { ledger->claim(ask_for("force_release", "f1")); }),
            ErrorCode::kIllegalTransition);
  const auto other = readdress("r", "coa", "timeout");
  sessions.seen.open = {session(former, seconds{-900}, seconds{1})};
  EXPECT_FALSE(look().open());
  claim = ledger->claim(ask_for("force_release", "f2")).claim();
  const auto moved = ledger->transition(move(claim, "revoked"));
  EXPECT_EQ(space_of(moved.aaa()), other);
  send(claim, moved.aaa());
  finish(claim);
  EXPECT_EQ(look().evidence(), "forced");
  EXPECT_EQ(holdings(), other);
  EXPECT_EQ(binding().state(), "active");
  EXPECT_EQ(code_of([&] { ledger->claim(ask_for("force_release", "f3")); }),
            ErrorCode::kIllegalTransition);
  expect_clean();
}

// --- another NAS, username, plan -----------------------------------------------------------------

TEST_P(ChangesTest, AMovedLineKeepsItsSpaceAndItsSessionsElsewhereAreCut) {
  const auto held = bring_up();
  auto request = ask_for("move", "m");
  request.set_nas_ip("192.0.2.2");
  const auto moved = change(request, "disconnect", true);
  const auto packet = wish(moved.radius());
  EXPECT_EQ(packet.at("spared_nas"), "192.0.2.2");
  EXPECT_EQ(packet.at("session_nas"), "192.0.2.1");
  EXPECT_EQ(space_of(moved.aaa()), held);
  EXPECT_EQ(wish(moved.aaa()).at("condition"), "full");
  send(claim, moved.aaa());
  send(claim, moved.radius(), "ack");
  finish(claim);
  EXPECT_EQ(holdings(), held);
  EXPECT_EQ(binding().state(), "active");
  auto again = ask_for("move", "m2");
  again.set_nas_ip("192.0.2.2");
  EXPECT_EQ(ledger->claim(again).outcome(), "nothing");
  auto unknown = ask_for("move", "m3");
  unknown.set_nas_ip("192.0.2.77");
  EXPECT_EQ(code_of([&] { ledger->claim(unknown); }), ErrorCode::kUnknownNas);
  expect_clean();
}

TEST_P(ChangesTest, ARenamedLinesRowsAndFormerNamesGoInOneWish) {
  const auto held = bring_up();
  auto request = ask_for("rebind", "n");
  request.set_username(tenant + "-new");
  const auto moved = change(request, "disconnect");
  const auto rows = wish(moved.aaa());
  EXPECT_EQ(rows.at("username"), tenant + "-new");
  EXPECT_EQ(rows.at("former_usernames"), nlohmann::json::array({tenant + "-s"}));
  EXPECT_EQ(space_of(moved.aaa()), held);
  EXPECT_EQ(wish(moved.radius()).at("session_username"), tenant + "-s");

  // Until its session is cut nobody else gets the former name.
  send(claim, moved.aaa());
  finish(claim);
  EXPECT_FALSE(is_free(tenant + "-s"));
  send(claim, moved.radius(), "ack");
  give_to_eve(tenant + "-s");
  // From then on it is theirs: the line's packets do not look for it.
  auto plan = ask_for("change_plan", "p");
  plan.set_plan("gold");
  const auto told = change(plan, "coa");
  EXPECT_EQ(wish(told.radius()).at("former_usernames"), nlohmann::json::array());
  // AAA knows itself whose rows are whose: what it still has of the line's own is to go.
  EXPECT_EQ(wish(told.aaa()).at("former_usernames"), nlohmann::json::array({tenant + "-s"}));
}

TEST_P(ChangesTest, AFormerNameStaysHeldOverWhateverComesBeforeItsCut) {
  bring_up();
  claim = ledger->claim(rename("n", "-new")).claim();
  EXPECT_FALSE(is_free(tenant + "-s")) << "before anything was sent";
  const auto moved = change("disconnect");
  send(claim, moved.aaa());
  send(claim, moved.radius(), "timeout", "unknown");
  finish(claim);
  EXPECT_FALSE(is_free(tenant + "-s"));
  // The next claim takes the packet over; its own leaves only with its transition.
  claim = ledger->claim(ask_for("readdress", "r")).claim();
  EXPECT_FALSE(is_free(tenant + "-s"));
  take(claim, true);
  const auto told = change("coa", false, true);
  EXPECT_EQ(told.radius().action(), "disconnect");
  EXPECT_EQ(wish(told.radius()).at("former_usernames"), nlohmann::json::array({tenant + "-s"}));
  EXPECT_FALSE(is_free(tenant + "-s"));
  send(claim, told.radius(), "ack");
  finish(claim);
  EXPECT_TRUE(is_free(tenant + "-s"));
}

TEST_P(ChangesTest, ANameThatWasTakenBackStaysHeldWhereAaaLetItIn) {
  bring_up();
  const auto moved = change(rename("n", "-new"), "disconnect");
  send(claim, moved.aaa());
  send(claim, moved.radius(), "ack");  // of the session under the older name
  static_cast<void>(undo());
  finish(claim, false);
  EXPECT_EQ(ledger->view(service("s")).username(), tenant + "-s");
  EXPECT_FALSE(is_free(tenant + "-new"));
  EXPECT_FALSE(is_free(tenant + "-s"));
}

TEST_P(ChangesTest, ANameLeftWithoutACutIsHeldForTheHoldTime) {
  bring_up();
  send(claim, change(rename("n", "-new"), "").aaa());
  finish(claim);
  EXPECT_FALSE(is_free(tenant + "-s"));
  sql("UPDATE operations SET started_at = started_at - interval '10 years' WHERE tenant_id = '" +
      tenant + "'");
  EXPECT_TRUE(is_free(tenant + "-s"));
}

TEST_P(ChangesTest, NoOperationTakesANameThatIsAnotherLines) {
  bring_up();
  give_to_eve(tenant + "-eve");
  for (const char* operation : {"revoke", "suspend", "change_plan"}) {
    auto request = ask_for(operation, operation);
    request.set_username(tenant + "-eve");
    EXPECT_EQ(code_of([&] { ledger->claim(request); }), ErrorCode::kUsernameTaken) << operation;
  }
  EXPECT_EQ(ledger->view(service("s")).username(), tenant + "-s");
  const auto first = ledger->claim(of("allocate", "fay", tenant + "-fay")).claim();
  take(first, false);
  ledger->transition(move(first, "allocated"));
  finish(first);
  EXPECT_EQ(code_of([&] { ledger->claim(of("activate", "fay", tenant + "-eve")); }),
            ErrorCode::kUsernameTaken);

  // A free one is the line's from the claim on, and the one that it had is held.
  auto request = ask_for("revoke", "r");
  request.set_username(tenant + "-new");
  claim = ledger->claim(request).claim();
  EXPECT_EQ(ledger->view(service("s")).username(), tenant + "-new");
  EXPECT_FALSE(is_free(tenant + "-new"));
  EXPECT_FALSE(is_free(tenant + "-s"));
}

TEST_P(ChangesTest, TheIdOfASubscriberWhoseLineHasNoNameOfItsOwnIsTaken) {
  const std::string id = tenant + "-id";
  const auto first = ledger->claim(of("allocate", id, tenant + "-x")).claim();
  take(first, false);
  ledger->transition(move(first, "allocated"));
  finish(first);
  EXPECT_TRUE(is_free(id)) << "its line has another name";
  sql("UPDATE services SET username = '' WHERE subscriber_id = '" + id + "'");
  EXPECT_EQ(code_of([&] { ledger->claim(of_eve(id, "e")); }), ErrorCode::kUsernameTaken);
  bring_up();
  EXPECT_EQ(code_of([&] { ledger->claim(rename("n", "-id")); }), ErrorCode::kUsernameTaken);

  EXPECT_EQ(ledger->claim(of("activate", id, id)).outcome(), "claimed") << "its own is its own";
  sql("INSERT INTO services (tenant_id, subscriber_id, service) VALUES ('" + tenant + "', '" +
      tenant + "-none', 'internet')");
  EXPECT_TRUE(is_free(tenant + "-none")) << "a line that has nothing has no name";
}

TEST_P(ChangesTest, ALineWithoutANameOfItsOwnLeavesItsSubscribers) {
  bring_up();
  sql("UPDATE services SET username = '' WHERE subscriber_id = 's' AND tenant_id = '" + tenant +
      "'");
  const auto moved = change(rename("n", "-new"), "disconnect");
  EXPECT_EQ(wish(moved.aaa()).at("former_usernames"), nlohmann::json::array({"s"}));
  EXPECT_EQ(wish(moved.radius()).at("session_username"), "s");
  EXPECT_FALSE(is_free("s"));
  send(claim, moved.aaa(), "aaa_failed", "refused");
  static_cast<void>(undo());
  finish(claim, false);
  EXPECT_EQ(ledger->view(service("s")).username(), "s");
  // The name is no other test's business.
  sql("UPDATE services SET username = tenant_id || '-s', former_usernames = '{}'"
      " WHERE subscriber_id = 's' AND tenant_id = '" +
      tenant + "'");
}

TEST_P(ChangesTest, WhoRepeatsARequestWhoseRunWasLostIsToldWhatWasDone) {
  bring_up();
  auto request = rename("n", "-new");
  request.set_request_hash("the same");
  ledger->claim(request);
  request.set_run_id("the next run");
  const auto moved = change(request, "disconnect");
  send(claim, moved.aaa());
  send(claim, moved.radius(), "ack");
  v1::FinishRequest done;
  *done.mutable_claim() = claim;
  done.mutable_result()->set_success(true);
  done.mutable_result()->set_code("ok");
  done.mutable_result()->set_message("done");
  done.mutable_result()->add_effects()->set_effect_id(moved.radius().effect_id());
  const auto first = ledger->finish(done).result();
  auto again = rename("n2", "-new");
  again.set_request_hash("the same");
  auto repeated = ledger->claim(again);
  EXPECT_EQ(repeated.outcome(), "nothing");
  EXPECT_EQ(v1::to_json(repeated.result()), v1::to_json(first));
  // Who asks for something else that is so already is told that.
  again = rename("n3", "-new");
  EXPECT_EQ(ledger->claim(again).result().effects_size(), 0);
}

TEST_P(ChangesTest, ANameWhoseSessionWasCutIsNotHeldForLaterPackets) {
  bring_up();
  const auto moved = change(rename("n", "-new"), "disconnect");
  send(claim, moved.aaa());
  send(claim, moved.radius(), "ack");
  finish(claim);
  const auto again = change(rename("n2", "-newer"), "disconnect");
  send(claim, again.radius(), "nak", "refused");
  finish(claim);
  EXPECT_FALSE(is_free(tenant + "-new"));
  give_to_eve(tenant + "-s");
  EXPECT_EQ(ledger->claim(of_eve(tenant + "-s", "e2")).outcome(), "nothing") << "it is theirs";
}

// The name that a line rightly has is not refused to it, whatever its former line does.
TEST_P(ChangesTest, ALineKeepsTheNameThatItTookOver) {
  bring_up();
  const auto moved = change(rename("n", "-new"), "disconnect");
  send(claim, moved.aaa());
  send(claim, moved.radius(), "ack");
  finish(claim);
  give_to_eve(tenant + "-s");
  claim = ledger->claim(ask_for("revoke", "x")).claim();
  auto revoking = move(claim, "revoking");
  revoking.set_plan_radius("disconnect");
  send(claim, ledger->transition(revoking).radius(), "timeout", "unknown");
  finish(claim);
  EXPECT_EQ(ledger->claim(of_eve(tenant + "-s", "e2")).outcome(), "nothing");
}

TEST_P(ChangesTest, ARepeatedAllocateDoesNotRenameTheLine) {
  auto request = ask_for("allocate", "a");
  request.set_username(tenant + "-s");
  const auto first = ledger->claim(request).claim();
  take(first, false);
  ledger->transition(move(first, "allocated"));
  finish(first);
  auto other = ask_for("allocate", "a2");
  other.set_username(tenant + "-w");
  EXPECT_EQ(code_of([&] { ledger->claim(other); }), ErrorCode::kConflict);
  EXPECT_EQ(ledger->view(service("s")).username(), tenant + "-s");
  EXPECT_TRUE(is_free(tenant + "-w"));
  other.mutable_caller()->set_key("a3");
  other.clear_username();
  EXPECT_EQ(ledger->claim(other).outcome(), "nothing");
}

TEST_P(ChangesTest, ARenameThatIsUndoneBringsTheNameBack) {
  const auto held = bring_up();
  auto request = ask_for("rebind", "n");
  request.set_username(tenant + "-new");
  const auto moved = change(request, "disconnect");
  send(claim, moved.aaa(), "username_taken", "refused");
  const auto undone = undo();
  EXPECT_EQ(wish(undone.aaa()).at("username"), tenant + "-s");
  EXPECT_EQ(wish(undone.aaa()).at("former_usernames"), nlohmann::json::array())
      << "AAA never let it in";
  EXPECT_EQ(space_of(undone.aaa()), held);
  send(claim, undone.aaa());
  finish(claim, false);
  EXPECT_EQ(ledger->view(service("s")).username(), tenant + "-s");
  expect_clean();
}

TEST_P(ChangesTest, AnotherPlanIsToldAndAnUndoneOneIsToldBack) {
  bring_up("silver");
  auto request = ask_for("change_plan", "p");
  request.set_plan("gold");
  const auto moved = change(request, "coa");
  EXPECT_EQ(wish(moved.aaa()).at("plan"), "gold");
  send(claim, moved.aaa());
  send(claim, moved.radius(), "timeout", "unknown");
  const auto undone = undo();
  ASSERT_EQ(undone.more_size(), 1);  // the packet may have been taken
  EXPECT_EQ(undone.more(0).system(), "radius");
  EXPECT_EQ(wish(undone.more(0)).at("plan"), "silver");
  EXPECT_EQ(wish(undone.aaa()).at("plan"), "silver");
  send(claim, undone.aaa());
  send(claim, undone.more(0), "ack");
  finish(claim, false);
  EXPECT_EQ(ledger->view(service("s")).plan(), "silver");
  expect_clean();
}

// What one change could not tell the session the next transition still has to.
TEST_P(ChangesTest, WhatASessionWasNotToldTheNextTransitionTellsIt) {
  bring_up();
  auto request = ask_for("move", "m");
  request.set_nas_ip("192.0.2.2");
  const auto moved = change(request, "disconnect", true);
  send(claim, moved.aaa());
  send(claim, moved.radius(), "timeout", "unknown");
  finish(claim);
  auto plan = ask_for("change_plan", "p");
  plan.set_plan("gold");
  const auto told = change(plan, "coa");
  EXPECT_EQ(told.radius().action(), "disconnect");
  send(claim, told.aaa());
  send(claim, told.radius(), "ack");
  finish(claim);
  plan = ask_for("change_plan", "p2");
  plan.set_plan("silver");
  EXPECT_EQ(change(plan, "coa").radius().action(), "coa");
  finish(claim);

  readdress("r", "coa", "timeout");
  plan = ask_for("change_plan", "p3");
  plan.set_plan("gold");
  const auto renumbers = change(plan, "coa");
  EXPECT_TRUE(wish(renumbers.radius()).at("renumber").get<bool>());
  send(claim, renumbers.aaa());
  send(claim, renumbers.radius(), "ack");
  finish(claim);
  plan = ask_for("change_plan", "p4");
  plan.set_plan("silver");
  EXPECT_FALSE(wish(change(plan, "coa").radius()).contains("renumber"));
}

// A change that fails after its claim has superseded what an older one still owed.
TEST_P(ChangesTest, WhatAnOlderSuspendOwesTheUndoOfAFailedChangeTells) {
  bring_up();
  suspend("timeout");
  claim = ledger->claim(ask_for("readdress", "r")).claim();
  const auto undone = undo();
  ASSERT_EQ(undone.more_size(), 1);
  EXPECT_EQ(undone.more(0).system(), "radius");
  EXPECT_EQ(undone.more(0).action(), "coa");
  EXPECT_EQ(wish(undone.more(0)).at("condition"), "restricted");
  finish(claim, false);
  EXPECT_EQ(ledger->view(service("s")).enforcement(), "pending");
  send(claim, undone.more(0), "ack");
  EXPECT_EQ(ledger->view(service("s")).enforcement(), "confirmed");

  claim = ledger->claim(ask_for("readdress", "r2")).claim();
  EXPECT_EQ(undo().more_size(), 0) << "nothing is owed any more";
}

TEST_P(ChangesTest, TheCutThatAnOlderRenameOwesTheUndoOfAFailedChangeMakes) {
  bring_up();
  auto request = ask_for("rebind", "n");
  request.set_username(tenant + "-new");
  const auto moved = change(request, "disconnect");
  send(claim, moved.aaa());
  send(claim, moved.radius(), "timeout", "unknown");
  finish(claim);
  // Tried twice: a failed change is no excuse for the next one.
  for (const char* key : {"r1", "r2"}) {
    claim = ledger->claim(ask_for("readdress", key)).claim();
    const auto undone = undo();
    ASSERT_EQ(undone.more_size(), 1);
    EXPECT_EQ(undone.more(0).action(), "disconnect");
    EXPECT_FALSE(wish(undone.more(0)).contains("spared_nas"));
    send(claim, undone.more(0), "timeout", "unknown");
    finish(claim, false);
  }
  auto plan = ask_for("change_plan", "p");
  plan.set_plan("gold");
  const auto told = change(plan, "coa");
  EXPECT_EQ(told.radius().action(), "disconnect");
}

TEST_P(ChangesTest, TheRenumberingThatIsOwedIsMadeByTheUndoOfAFailedChange) {
  bring_up();
  const auto other = readdress("r1", "coa", "timeout");
  claim = ledger->claim(ask_for("readdress", "r2")).claim();
  const auto undone = undo();
  ASSERT_EQ(undone.more_size(), 1);
  EXPECT_EQ(undone.more(0).action(), "coa");
  EXPECT_TRUE(wish(undone.more(0)).at("renumber").get<bool>());
  EXPECT_EQ(space_of(undone.more(0)), other);
}

TEST_P(ChangesTest, ASessionThatMayHaveTakenTheSpaceOfAnUndoneReaddressIsGivenItsOwnBack) {
  const auto former = bring_up();
  claim = ledger->claim(ask_for("readdress", "r")).claim();
  take(claim, true);
  const auto moved = change("coa", false, true);
  send(claim, moved.aaa());
  send(claim, moved.radius(), "timeout", "unknown");
  const auto undone = undo();
  ASSERT_EQ(undone.more_size(), 1);
  EXPECT_TRUE(wish(undone.more(0)).at("renumber").get<bool>());
  EXPECT_EQ(space_of(undone.more(0)), former);
  finish(claim, false);
  // Nor was that heard of: the next transition tells it again.
  auto plan = ask_for("change_plan", "p");
  plan.set_plan("gold");
  EXPECT_TRUE(wish(change(plan, "coa").radius()).at("renumber").get<bool>());
}

TEST_P(ChangesTest, ARestatementAfterTheUndoStatesWhatIsAndNotWhatWasUndone) {
  bring_up("silver");
  suspend("timeout");
  auto request = ask_for("change_plan", "p");
  request.set_plan("gold");
  const auto claimed = ledger->claim(request);
  EXPECT_TRUE(claimed.restate());
  claim = claimed.claim();
  const auto moved = change("coa");
  send(claim, moved.aaa(), "aaa_failed", "refused");
  const auto undone = undo();
  finish(claim, false);
  auto again = move(claim, "active");
  again.set_keep_state(true);
  again.set_plan_aaa(true);
  again.set_plan_radius("coa");
  again.set_plan("gold");
  again.set_step("restate");
  const auto restated = ledger->transition(again);
  EXPECT_EQ(ledger->view(service("s")).plan(), "silver");
  ASSERT_EQ(restated.radius().action(), "coa");
  EXPECT_EQ(wish(restated.radius()).at("plan"), "silver");
  EXPECT_EQ(wish(restated.radius()).at("condition"), "restricted");
}

TEST_P(ChangesTest, APacketOfAnUndoneOperationThatMayComeLateIsFollowedByTheConditionAsItIs) {
  bring_up("silver");
  auto request = ask_for("change_plan", "p");
  request.set_plan("gold");
  const auto moved = change(request, "coa");
  send(claim, moved.aaa());
  send(claim, moved.radius(), "timeout", "unknown");
  const auto undone = undo();
  EXPECT_TRUE(undone.restate());
  ASSERT_EQ(undone.more_size(), 1);
  send(claim, undone.more(0), "ack");
  finish(claim, false);
  auto again = move(claim, "active");
  again.set_keep_state(true);
  again.set_step("restate-undone");
  const auto restated = ledger->transition(again);
  ASSERT_EQ(restated.radius().action(), "coa");
  EXPECT_EQ(wish(restated.radius()).at("plan"), "silver");
  send(claim, restated.radius(), "ack");

  // And so does whatever comes next while it may still leave, though newer ones were answered.
  const auto deadline = [&](const std::string& when) {
    sql(fmt::format("UPDATE effects SET hard_deadline = clock_timestamp() {} WHERE id = {}", when,
                    moved.radius().effect_id()));
  };
  deadline("+ interval '1 hour'");
  const auto suspended = ledger->claim(ask_for("suspend", "late"));
  EXPECT_TRUE(suspended.restate());
  claim = suspended.claim();
  auto wanted = move(claim, "suspended");
  wanted.set_add_hold("billing");
  wanted.set_plan_radius("coa");
  const auto told = ledger->transition(wanted);
  send(claim, told.aaa());
  send(claim, told.radius(), "ack");
  finish(claim);
  deadline("- interval '1 second'");
  EXPECT_FALSE(ledger->claim(ask_for("reactivate", "later")).restate());
}

TEST_P(ChangesTest, ARestatementIsAPacketAlsoWhereTheOperationItselfSentNone) {
  bring_up();
  suspend("timeout");
  const auto claimed = ledger->claim(ask_for("readdress", "r"));
  EXPECT_TRUE(claimed.restate());
  claim = claimed.claim();
  take(claim, true);
  send(claim, change("coa", false, true).radius(), "ack");
  auto again = move(claim, "active");
  again.set_keep_state(true);
  again.set_step("restate");
  const auto restated = ledger->transition(again);
  ASSERT_EQ(restated.radius().action(), "coa");
  EXPECT_EQ(wish(restated.radius()).at("condition"), "restricted");
}

TEST_P(ChangesTest, APacketOfAnUndoneOperationThatNeverLeftIsNotOwed) {
  bring_up("silver");
  auto request = ask_for("change_plan", "p");
  request.set_plan("gold");
  send(claim, change(request, "coa").aaa(), "aaa_failed", "refused");
  EXPECT_EQ(undo().more_size(), 0);
  finish(claim, false);
  request = ask_for("change_plan", "p2");
  request.set_plan("gold");
  EXPECT_EQ(change(request, "").radius().effect_id(), 0);
  finish(claim);

  // One of an operation that stands is.
  request = ask_for("change_plan", "p3");
  request.set_plan("bronze");
  send(claim, change(request, "coa").aaa());
  finish(claim);
  request = ask_for("change_plan", "p4");
  request.set_plan("gold");
  EXPECT_EQ(change(request, "").radius().action(), "coa");
}

// The session on the NAS that the line moves to may be the very one that missed something.
TEST_P(ChangesTest, AMoveSparesNoSessionThatHasMissedSomething) {
  bring_up();
  suspend("timeout");
  auto request = ask_for("move", "m");
  request.set_nas_ip("192.0.2.2");
  const auto moved = change(request, "disconnect", true);
  EXPECT_FALSE(wish(moved.radius()).contains("spared_nas"));
  send(claim, moved.aaa());
  send(claim, moved.radius(), "ack");
  finish(claim);
  readdress("r", "coa", "timeout");
  request = ask_for("move", "m2");
  request.set_nas_ip("192.0.2.1");
  const auto renumbered = change(request, "disconnect", true);
  EXPECT_FALSE(wish(renumbered.radius()).contains("spared_nas"));
}

TEST_P(ChangesTest, OnlyALineThatLivesCanBeChanged) {
  for (const char* operation : {"move", "rebind", "change_plan", "readdress"}) {
    auto request = ask_for(operation, std::string{"none-"} + operation);
    request.set_nas_ip("192.0.2.2");
    EXPECT_EQ(code_of([&] { ledger->claim(request); }), ErrorCode::kNotFound) << operation;
  }
  bring_up();
  const auto claimed = ledger->claim(ask_for("revoke", "x"));
  ledger->transition(move(claimed.claim(), "revoking"));
  finish(claimed.claim());
  for (const char* operation : {"move", "rebind", "change_plan", "readdress"}) {
    auto request = ask_for(operation, std::string{"gone-"} + operation);
    request.set_nas_ip("192.0.2.2");
    EXPECT_EQ(code_of([&] { ledger->claim(request); }), ErrorCode::kIllegalTransition) << operation;
  }
}

// What switches services by name must take the former plan's off, for as long as it may be there.
TEST_P(ChangesTest, APacketNamesThePlansThatTheSessionMayStillHave) {
  using ::testing::ElementsAre;
  const auto change_plan = [&](const std::string& plan, const std::string& status) {
    auto request = ask_for("change_plan", plan);
    request.set_plan(plan);
    const auto moved = change(request, "coa");
    send(claim, moved.aaa());
    send(claim, moved.radius(), "x", status);
    finish(claim);
    return wish(moved.radius());
  };
  const auto former = [](const nlohmann::json& wish) {
    return wish.value("former_plans", std::vector<std::string>{});
  };
  bring_up("silver");
  EXPECT_THAT(former(change_plan("gold", "confirmed")), ElementsAre("silver"));
  EXPECT_THAT(former(change_plan("bronze", "unknown")), ElementsAre("gold"));
  EXPECT_THAT(former(change_plan("iron", "unknown")), ElementsAre("bronze", "gold"));
  claim = ledger->claim(ask_for("suspend", "s")).claim();
  auto hold = move(claim, "suspended");
  hold.set_add_hold("billing");
  hold.set_plan_radius("coa");
  const auto restricted = ledger->transition(hold);
  EXPECT_THAT(former(wish(restricted.radius())), ElementsAre("bronze", "gold"));
  send(claim, restricted.aaa());
  send(claim, restricted.radius(), "ack");
  finish(claim);
  no_packet_is_late();
  claim = ledger->claim(ask_for("reactivate", "r")).claim();
  auto lift = move(claim, "active");
  lift.set_remove_hold("billing");
  lift.set_plan_radius("coa");
  EXPECT_THAT(former(wish(ledger->transition(lift).radius())), ElementsAre())
      << "the last packet stated all of it";
}

TEST_P(ChangesTest, ARestatementNamesThePlanThatALatePacketMayHavePutOn) {
  using ::testing::ElementsAre;
  const auto former = [&](const v1::EffectRef& packet) {
    return wish(packet).value("former_plans", std::vector<std::string>{});
  };
  bring_up("silver");
  auto request = ask_for("change_plan", "p");
  request.set_plan("gold");
  const auto moved = change(request, "coa");
  send(claim, moved.aaa());
  send(claim, moved.radius(), "timeout", "unknown");
  const auto undone = undo();
  ASSERT_EQ(undone.more_size(), 1);
  EXPECT_THAT(former(undone.more(0)), ElementsAre("gold"));
  send(claim, undone.more(0), "ack");
  finish(claim, false);
  const auto restate = [&] {
    auto again = move(claim, "active");
    again.set_keep_state(true);
    again.set_step("restate-undone");
    return ledger->transition(again).radius();
  };
  const auto restated = restate();
  EXPECT_THAT(former(restated), ElementsAre("gold")) << "it may have come after the newer one";
  send(claim, restated, "ack");
  no_packet_is_late();
  request = ask_for("change_plan", "p2");
  request.set_plan("bronze");
  EXPECT_THAT(former(change(request, "coa").radius()), ElementsAre("silver"));
}

TEST_P(ChangesTest, TheConditionAfterAStaleAnswerNamesThePlanOfThatPacket) {
  bring_up("silver");
  auto request = ask_for("change_plan", "p");
  request.set_plan("gold");
  const auto moved = change(request, "coa");
  send(claim, moved.aaa());
  v1::EffectRequest late;
  *late.mutable_service() = claim.service();
  late.set_number(claim.number());
  *late.mutable_effect() = moved.radius();
  const auto leave = ledger->begin(late, seconds{1});
  finish(claim);
  request = ask_for("change_plan", "p2");
  request.set_plan("bronze");
  const auto newer = change(request, "coa");
  send(claim, newer.aaa());
  send(claim, newer.radius(), "ack");
  finish(claim);
  no_packet_is_late();
  v1::EffectReply reply;
  reply.set_status("confirmed");
  EXPECT_FALSE(ledger->finish(late, leave.attempt, reply));
  const auto again = sql(
      fmt::format("SELECT id, wish->>'plan', wish->'former_plans' FROM effects WHERE tenant_id ="
                  " '{}' AND system = 'radius' ORDER BY id DESC LIMIT 1",
                  tenant));
  EXPECT_GT(again[0][0].as<std::int64_t>(), newer.radius().effect_id());
  EXPECT_EQ(again[0][1].as<std::string>(), "bronze");
  EXPECT_EQ(again[0][2].as<std::string>(), R"(["gold"])");
}

// --- what is said again of a line that is there --------------------------------------------------

TEST_P(ChangesTest, WhatAnAllocateSaysOfALineThatIsThereIsNotDropped) {
  add_space("other", "203.0.113.0/24", "2001:db9::/40");
  auto first = ask_for("allocate", "a");
  first.set_nas_ip("192.0.2.1");
  first.set_plan("silver");
  first.set_username(tenant + "-s");
  ipv4() ? first.set_ipv4_pool_id("main") : first.set_ipv6_pool_id("main");
  claim = ledger->claim(first).claim();
  v1::ReserveRequest wanted;
  *wanted.mutable_claim() = claim;
  wanted.set_family(family());
  wanted.set_pool_id("main");
  ledger->reserve(wanted);
  send(claim, ledger->transition(move(claim, "allocated")).aaa());
  finish(claim);
  const auto refusal = [&](auto say) {
    auto request = ask_for("allocate", "a2");
    say(request);
    const auto looked = code_of(
        [&] { ledger->look(request.service(), [&](LedgerLook& look) { look.claim(request); }); });
    try {
      const auto answer = ledger->claim(request);
      return "no error: " + answer.outcome();
    } catch (const LedgerError& error) {
      EXPECT_EQ(error.code(), ErrorCode::kConflict);
      EXPECT_EQ(looked, error.code());
      return std::string{error.what()};
    }
  };
  using ::testing::StartsWith;
  EXPECT_THAT(refusal([](auto& request) { request.set_plan("gold"); }), StartsWith("plan differs"));
  EXPECT_THAT(refusal([](auto& request) { request.set_nas_ip("192.0.2.2"); }),
              StartsWith("nas_ip differs"));
  EXPECT_THAT(refusal([&](auto& request) {
                ipv4() ? request.set_ipv4_pool_id("other") : request.set_ipv6_pool_id("other");
              }),
              StartsWith(ipv4() ? "ipv4_pool_id is not" : "ipv6_pool_id is not"));
  EXPECT_THAT(refusal([](auto& request) { request.set_restrict_when("all"); }),
              StartsWith("restrict_when differs"));
  EXPECT_EQ(ledger->view(service("s")).plan(), "silver");
  // The same again is no other request, and the line goes on from there.
  first.mutable_caller()->set_key("a3");
  first.set_restrict_when("any");
  EXPECT_EQ(ledger->claim(first).outcome(), "nothing");
  EXPECT_EQ(ledger->claim(ask_for("allocate", "a4")).outcome(), "nothing");
  auto activate = ask_for("activate", "b");
  activate.set_nas_ip("192.0.2.1");
  EXPECT_EQ(ledger->claim(activate).outcome(), "claimed");
}

TEST_P(ChangesTest, TheNasOfALineThatHadNoneIsNotedByTheNextAllocate) {
  auto first = ask_for("allocate", "a");
  first.set_username(tenant + "-s");
  claim = ledger->claim(first).claim();
  take(claim, false);
  ledger->transition(move(claim, "allocated"));
  finish(claim);
  auto again = ask_for("allocate", "a2");
  again.set_nas_ip("192.0.2.1");
  ledger->look(service("s"), [&](LedgerLook& look) {
    look.claim(again);
    EXPECT_EQ(look.view().nas_ip(), "192.0.2.1");
  });
  const auto answer = ledger->claim(again);
  EXPECT_EQ(answer.outcome(), "nothing");
  EXPECT_EQ(answer.result().service_view().nas_ip(), "192.0.2.1");
  EXPECT_EQ(ledger->view(service("s")).nas_ip(), "192.0.2.1");
}

TEST_P(ChangesTest, ANasIsMeantByAnyOfItsAddresses) {
  ports::NasRecord nas = nas_record("2001:db8:ff::1");
  nas.source_addresses = {"192.0.2.66", "2001:db8:ff::2"};
  ledger->add_nas(nas);
  add_space("site", "203.0.113.0/24", "2001:db9::/40", {"2001:db8:ff::1"});
  auto request = ask_for("allocate", "a");
  request.set_username(tenant + "-s");
  request.set_nas_ip("2001:db8:ff::2");
  claim = ledger->claim(request).claim();
  take(claim, false);
  auto allocated = move(claim, "allocated");
  allocated.set_nas_ip("2001:db8:ff::2");  // as the workflow says it again
  send(claim, ledger->transition(allocated).aaa());
  finish(claim);
  EXPECT_EQ(binding().pool(), "site");
  EXPECT_EQ(ledger->view(service("s")).nas_ip(), "2001:db8:ff::1");
  auto again = ask_for("allocate", "a2");
  again.set_nas_ip("192.0.2.66");
  EXPECT_EQ(ledger->claim(again).outcome(), "nothing") << "it is the same NAS";
  auto moved = ask_for("move", "m");
  moved.set_nas_ip("192.0.2.66");
  EXPECT_EQ(ledger->claim(moved).outcome(), "nothing");
  moved.mutable_caller()->set_key("m2");
  moved.set_nas_ip("2001:db8:ff::3");
  EXPECT_EQ(code_of([&] { ledger->claim(moved); }), ErrorCode::kUnknownNas);
  moved.set_nas_ip("::bad:");
  EXPECT_EQ(code_of([&] { ledger->claim(moved); }), ErrorCode::kInvalidArgument);
  expect_clean();
}

}  // namespace
}  // namespace addrflow::ledger
