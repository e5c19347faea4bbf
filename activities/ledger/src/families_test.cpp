// Both families in one service, on a real PostgreSQL: one claim, one session, two holdings.
#include "ledger_fixture.hpp"

namespace addrflow::ledger {
namespace {

const std::vector<std::string> kIpv4{"ipv4"};
const std::vector<std::string> kIpv6{"ipv6_pd"};
const std::vector<std::string> kBoth{"ipv4", "ipv6_pd"};

class FamiliesTest : public LedgerTest {
 protected:
  void SetUp() override {
    LedgerTest::SetUp();
    if (IsSkipped()) return;
    pool();
    PoolSpec prefixes = pool_spec("2001:db8::/40");
    prefixes.name = "prefixes";
    prefixes.family = "ipv6_pd";
    ledger->add_pool(prefixes);
  }

  v1::ClaimRequest ask_for(const std::string& operation, const std::string& key,
                           const std::vector<std::string>& families) const {
    v1::ClaimRequest request = ask(operation, "s", key);
    for (const std::string& family : families) request.add_families(family);
    return request;
  }

  // The move of the families that the claim names.
  v1::TransitionRequest move(const v1::ClaimReply& claimed, const std::string& state) {
    v1::TransitionRequest move = to(claimed.claim(), state);
    *move.mutable_families() = claimed.families();
    return move;
  }

  v1::TransitionReply operate(const std::string& operation, const std::string& key,
                              const std::string& state, const std::vector<std::string>& families,
                              const std::string& radius = {}, const std::string& reason = {}) {
    const auto claimed = ledger->claim(ask_for(operation, key, families));
    EXPECT_EQ(claimed.outcome(), "claimed");
    auto wanted = move(claimed, state);
    wanted.set_plan_radius(radius);
    if (operation == "suspend") wanted.set_add_hold(reason);
    if (operation == "reactivate") wanted.set_remove_hold(reason);
    const auto moved = ledger->transition(wanted);
    if (moved.aaa().effect_id() != 0) send(claimed.claim(), moved.aaa());
    if (moved.radius().effect_id() != 0) send(claimed.claim(), moved.radius(), "ack");
    finish(claimed.claim());
    last = claimed.claim();
    return moved;
  }

  // AAA lets go of them, and nobody has confirmed the end of the session.
  void revoke_without_answer(const std::vector<std::string>& families) {
    const auto claimed = ledger->claim(ask_for("revoke", "r", families));
    auto wanted = move(claimed, "revoking");
    wanted.set_plan_radius("disconnect");
    const auto moved = ledger->transition(wanted);
    last = claimed.claim();
    send(last, moved.aaa());
    send(last, moved.radius(), "timeout", "unknown");
    finish(last);
  }

  void allocate_families(const std::string& key, const std::vector<std::string>& families) {
    const auto claimed = ledger->claim(ask_for("allocate", key, families));
    ASSERT_EQ(claimed.outcome(), "claimed");
    for (const std::string& family : families)
      family == "ipv4" ? reserve(claimed.claim()) : reserve_prefix(claimed.claim());
    const auto moved = ledger->transition(move(claimed, "allocated"));
    send(claimed.claim(), moved.aaa());
    finish(claimed.claim());
  }

  void make_active(const std::vector<std::string>& families) {
    allocate_families("a", families);
    operate("activate", "b", "active", families);
  }

  nlohmann::json wish(const v1::EffectRef& effect) {
    const auto found =
        sql(fmt::format("SELECT wish::text FROM effects WHERE id = {}", effect.effect_id()));
    return nlohmann::json::parse(found[0][0].c_str());
  }

  v1::BindingView binding(const std::string& family) {
    for (const auto& one : ledger->view(service("s")).bindings()) {
      if (one.family() == family) return one;
    }
    return {};
  }
  std::string profile(const std::string& columns) {
    const auto found = sql(fmt::format(
        "SELECT concat_ws(' ', {}) FROM subscriber_network_profiles WHERE tenant_id = '{}'"
        " AND subscriber_id = 's'",
        columns, tenant));
    return found.empty() ? "none" : found[0][0].c_str();
  }
  v1::GateReply look(const std::vector<std::string>& families) {
    v1::GateRequest request;
    *request.mutable_service() = last.service();
    request.set_number(last.number());
    for (const std::string& family : families) request.add_families(family);
    return ledger->gate(request);
  }

  v1::Claim last;
};

TEST_F(FamiliesTest, BothAreOneGenerationOneSessionAndTheSeedsProfile) {
  const auto claimed = ledger->claim(ask_for("allocate", "a", kBoth));
  const auto address = reserve(claimed.claim()).address();
  const auto reserved = reserve_prefix(claimed.claim());
  EXPECT_TRUE(reserved.address().ends_with("/56")) << reserved.address();
  const auto moved = ledger->transition(move(claimed, "allocated"));
  const auto session = wish(moved.aaa());
  EXPECT_EQ(session["framed_ip"], address);
  EXPECT_EQ(session["delegated_prefix"], reserved.address());
  EXPECT_EQ(session["condition"], "full");
  EXPECT_EQ(binding("ipv4").generation(), binding("ipv6_pd").generation());
  EXPECT_EQ(binding("ipv6_pd").prefix(), reserved.address());
  EXPECT_EQ(profile("ipv6_assignment_mode, ipv6_prefix, ipv6_state"),
            "dual_stack " + reserved.address() + " allocated");
  send(claimed.claim(), moved.aaa());
  finish(claimed.claim());
  const auto again = ledger->claim(ask_for("allocate", "a", kBoth));
  EXPECT_EQ(again.outcome(), "recorded");
  EXPECT_EQ(again.result().address(), address);
  EXPECT_EQ(again.result().prefix(), reserved.address());
  expect_clean();
}

TEST_F(FamiliesTest, ARequestWithoutFamiliesMeansWhatTheLineHas) {
  make_active(kBoth);
  const auto claimed = ledger->claim(ask_for("suspend", "s1", {}));
  EXPECT_EQ(claimed.families_size(), 2);
  const auto repeated = ledger->claim(ask_for("suspend", "s1", {}));
  EXPECT_EQ(repeated.families_size(), 2) << "the same answer for the same claim";
}

TEST_F(FamiliesTest, SuspendingBothAndResumingOneKeepsTheSessionRestricted) {
  make_active(kBoth);
  const auto suspended = operate("suspend", "s1", "suspended", kBoth, "coa", "billing");
  EXPECT_EQ(wish(suspended.radius())["condition"], "restricted");
  const auto resumed = operate("reactivate", "r1", "active", kIpv6, "coa", "billing");
  EXPECT_EQ(binding("ipv6_pd").state(), "active");
  EXPECT_EQ(binding("ipv4").state(), "suspended");
  EXPECT_EQ(binding("ipv4").holds_size(), 1);
  EXPECT_EQ(binding("ipv6_pd").holds_size(), 0);
  EXPECT_EQ(resumed.radius().effect_id(), 0) << "the session stays as it is: nothing is sent";
  EXPECT_EQ(resumed.aaa().effect_id(), 0);
  expect_clean();
  const auto free = operate("reactivate", "r2", "active", kIpv4, "coa", "billing");
  EXPECT_EQ(wish(free.radius())["condition"], "full");
  EXPECT_EQ(ledger->view(service("s")).holds_size(), 0);
  expect_clean();
}

TEST_F(FamiliesTest, ALineThatRestrictsOnlyWhenAllAreSuspendedIsLiftedByTheFirst) {
  auto wanted = ask_for("allocate", "a", kBoth);
  wanted.set_restrict_when("all");
  const auto claimed = ledger->claim(wanted);
  reserve(claimed.claim());
  reserve_prefix(claimed.claim());
  send(claimed.claim(), ledger->transition(move(claimed, "allocated")).aaa());
  finish(claimed.claim());
  operate("activate", "b", "active", kBoth);
  const auto one = operate("suspend", "s1", "suspended", kIpv4, "coa", "billing");
  EXPECT_EQ(one.radius().effect_id(), 0) << "the other one is still active";
  const auto both = operate("suspend", "s2", "suspended", kIpv6, "coa", "billing");
  EXPECT_EQ(wish(both.radius())["condition"], "restricted");
  const auto lifted = operate("reactivate", "r1", "active", kIpv6, "coa", "billing");
  EXPECT_EQ(wish(lifted.radius())["condition"], "full");
  EXPECT_EQ(wish(lifted.radius())["framed_ip"], binding("ipv4").address()) << "nothing is cut";
  expect_clean();
}

TEST_F(FamiliesTest, AFailedAdditionLeavesTheLiveLineAsItWas) {
  make_active(kIpv4);
  const auto before = binding("ipv4");
  const auto claimed = ledger->claim(ask_for("allocate", "add", kIpv6));
  reserve_prefix(claimed.claim());
  const auto moved = ledger->transition(move(claimed, "allocated"));
  EXPECT_EQ(wish(moved.aaa())["framed_ip"], before.address()) << "one login has both";
  send(claimed.claim(), moved.aaa());
  v1::UndoRequest undo;
  *undo.mutable_claim() = claimed.claim();
  const auto undone = ledger->undo(undo);
  EXPECT_EQ(wish(undone.aaa())["delegated_prefix"], "");
  EXPECT_EQ(wish(undone.aaa())["framed_ip"], before.address());
  EXPECT_EQ(wish(undone.aaa())["condition"], "full");
  send(claimed.claim(), undone.aaa());
  finish(claimed.claim(), false);
  EXPECT_EQ(binding("ipv4").state(), "active");
  EXPECT_EQ(binding("ipv4").activated_at(), before.activated_at());
  EXPECT_EQ(binding("ipv6_pd").state(), "revoked");
  EXPECT_TRUE(binding("ipv6_pd").space_held()) << "AAA has seen it: the gate decides";
  expect_clean();
}

TEST_F(FamiliesTest, TheOptionalFamilyIsTakenOutAloneAndTheRestGoesOn) {
  const auto claimed = ledger->claim(ask_for("allocate", "a", kBoth));
  reserve(claimed.claim());
  const auto prefix = reserve_prefix(claimed.claim()).address();
  v1::UndoRequest undo;
  *undo.mutable_claim() = claimed.claim();
  undo.set_family("ipv6_pd");
  ledger->undo(undo);
  auto rest = move(claimed, "allocated");
  rest.clear_families();
  rest.add_families("ipv4");
  const auto moved = ledger->transition(rest);
  EXPECT_EQ(wish(moved.aaa())["delegated_prefix"], "");
  send(claimed.claim(), moved.aaa());
  finish(claimed.claim());
  const auto told = ledger->claim(ask_for("allocate", "a", kBoth)).result();
  EXPECT_EQ(told.prefix(), "") << "what was left out is not in the answer";
  EXPECT_EQ(told.state(), "allocated");
  EXPECT_EQ(profile("ipv6_prefix, ipv6_state"), "pending") << "its columns are reset";
  expect_clean();
}

TEST_F(FamiliesTest, WhatCannotBeHadIsLeftOutAtTheClaimWhenItIsOptional) {
  auto wanted = ask_for("allocate", "a", kBoth);
  wanted.set_ipv6_pool_id("no-such-pool");
  EXPECT_EQ(code_of([&] { ledger->claim(wanted); }), ErrorCode::kNoSuchPool);
  wanted.set_optional_family("ipv6_pd");
  const auto claimed = ledger->claim(wanted);
  EXPECT_EQ(claimed.outcome(), "claimed");
  ASSERT_EQ(claimed.families_size(), 1);
  EXPECT_EQ(claimed.families(0), "ipv4");
  EXPECT_NE(claimed.left_out().find("ipv6_pool_id"), std::string::npos) << claimed.left_out();
}

TEST_F(FamiliesTest, AProfileWithoutDelegatedPrefixesRefusesOne) {
  sql(
      fmt::format("INSERT INTO subscriber_network_profiles (tenant_id, subscriber_id,"
                  " ipv6_assignment_mode) VALUES ('{}', 's', 'slaac')",
                  tenant));
  EXPECT_EQ(code_of([&] { ledger->claim(ask_for("allocate", "a", kIpv6)); }),
            ErrorCode::kWrongAssignmentMode);
  EXPECT_EQ(ledger->claim(ask_for("allocate", "b", kIpv4)).outcome(), "claimed");
}

TEST_F(FamiliesTest, TheModeOfAProfileIsSetAndShownAndAWrongOneNamed) {
  EXPECT_EQ(ledger->profile(tenant, "s").ipv6_mode, "");
  EXPECT_EQ(ledger->set_ipv6_mode(tenant, "s", "slaac").ipv6_mode, "slaac");
  EXPECT_EQ(ledger->set_ipv6_mode(tenant, "s", "pd").ipv6_mode, "pd");
  EXPECT_EQ(ledger->profile(tenant, "s").ipv6_mode, "pd");
  const auto refusal = [&](const std::string& of, const std::string& mode) -> std::string {
    try {
      ledger->set_ipv6_mode(of, "s", mode);
    } catch (const LedgerError& error) {
      return error.what();
    }
    return "taken";
  };
  EXPECT_NE(refusal(tenant, "dhcp").find("ipv6_mode"), std::string::npos);
  EXPECT_NE(refusal("nobody", "pd").find("tenant"), std::string::npos);
}

TEST_F(FamiliesTest, AProfileThatChangedItsModeStopsActivateAndNeverARevoke) {
  allocate_families("a", kIpv6);
  sql(
      fmt::format("UPDATE subscriber_network_profiles SET ipv6_assignment_mode = 'none'"
                  " WHERE tenant_id = '{}'",
                  tenant));
  EXPECT_EQ(code_of([&] { ledger->claim(ask_for("activate", "b", kIpv6)); }),
            ErrorCode::kWrongAssignmentMode);
  EXPECT_EQ(ledger->claim(ask_for("revoke", "r", kIpv6)).outcome(), "claimed");
}

TEST_F(FamiliesTest, TheGateOfOneFamilyDoesNotMindTheNewSessionOfTheOther) {
  make_active(kBoth);
  const auto address = binding("ipv4").address();
  const auto revoked = operate("revoke", "r", "revoking", kIpv4, "disconnect");
  EXPECT_EQ(wish(revoked.aaa())["framed_ip"], "");
  EXPECT_EQ(wish(revoked.aaa())["condition"], "full") << "the prefix is still to be had";
  ports::Session session;
  session.nas_ip = "192.0.2.1";
  session.framed_ip = address;
  sessions.seen.open = {session};
  EXPECT_FALSE(look(kIpv4).open()) << "the old session is there";
  session.framed_ip.clear();
  session.delegated_prefix = binding("ipv6_pd").prefix();
  session.started = std::chrono::system_clock::now() + std::chrono::seconds{1};
  sessions.seen.open = {session};
  EXPECT_FALSE(look(kIpv4).open()) << "nobody has seen the old one stop";
  sessions.seen.stopped_since = true;
  const auto opened = look(kIpv4);
  EXPECT_TRUE(opened.open()) << opened.detail();
  EXPECT_EQ(opened.evidence(), "strong");
  EXPECT_FALSE(binding("ipv4").space_held());
  EXPECT_TRUE(binding("ipv6_pd").space_held());
  EXPECT_EQ(binding("ipv6_pd").state(), "active");
  expect_clean();
}

TEST_F(FamiliesTest, CountsSayHowManyAreInEachStateAndWhatNetBoxKnows) {
  make_active(kBoth);
  operate("suspend", "s", "suspended", kIpv6, "coa", "billing");
  const auto counts = ledger->lifecycle_counts(tenant);
  ASSERT_EQ(counts.size(), 2U);
  EXPECT_EQ(counts[0].family, "ipv4");
  EXPECT_EQ(counts[0].states.at("active"), 1);
  EXPECT_EQ(counts[1].states.at("suspended"), 1);
  EXPECT_EQ(counts[1].states.at("active"), 0);
  EXPECT_EQ(counts[0].states.size(), 7U) << "every state is named";
  EXPECT_EQ(std::pair(counts[0].tracked, counts[0].untracked), std::pair(0L, 1L));
  sql("UPDATE ip_reservations SET netbox_ip_id = 7 WHERE family = 'ipv4' AND tenant_id = '" +
      tenant + "'");
  EXPECT_EQ(ledger->lifecycle_counts(tenant)[0].tracked, 1);
  EXPECT_EQ(ledger->lifecycle_counts("nobody")[0].states.at("active"), 0);
}

TEST_F(FamiliesTest, WhatIsMeasuredIsKeptAsTheTextOfAScrape) {
  make_active(kBoth);
  operate("suspend", "s", "suspended", kIpv6, "coa", "billing");
  const auto has = [&](const std::string& line) {
    return ledger->emitted_metrics().find("\n" + fmt::format(fmt::runtime(line), tenant) + "\n") !=
           std::string::npos;
  };
  v1::EmitMetricsRequest request;
  const auto ipv4 = ledger->emit_metrics(request);
  EXPECT_EQ(ipv4.family(), "ipv4");
  EXPECT_GE(ipv4.lines(), 1);
  EXPECT_GE(ipv4.pools(), 1);
  EXPECT_EQ(ipv4.errors(), 0);
  request.set_family("ipv6_pd");
  ledger->emit_metrics(request);
  EXPECT_TRUE(has(R"(ipv4_lifecycle_state_count{{tenant_id="{}",state="active"}} 1)"));
  EXPECT_TRUE(has(R"(ipv4_lifecycle_state_count{{tenant_id="{}",state="revoked"}} 0)"));
  EXPECT_TRUE(has(R"(ipv6_lifecycle_state_count{{tenant_id="{}",state="suspended"}} 1)"));
  EXPECT_TRUE(has(R"(ipv4_address_leak_count{{tenant_id="{}"}} 0)"));
  EXPECT_TRUE(has(R"(ipv4_netbox_integrated_count{{tenant_id="{}"}} 0)"));
  // What is gone is gone from the text too.
  sql("UPDATE ip_reservations SET lifecycle_state = 'revoking', revoking_since = now()"
      " WHERE family = 'ipv4' AND tenant_id = '" +
      tenant + "'");
  plants_violation = true;
  request.set_family("ipv4");
  ledger->emit_metrics(request);
  EXPECT_TRUE(has(R"(ipv4_lifecycle_state_count{{tenant_id="{}",state="active"}} 0)"));
  EXPECT_EQ(code_of([&] {
              v1::EmitMetricsRequest strange;
              strange.set_family("ipx");
              ledger->emit_metrics(strange);
            }),
            ErrorCode::kInvalidArgument);
}

TEST_F(FamiliesTest, ALeakIsCountedAndSoIsWhatIsNotConfirmed) {
  pool();
  allocate("leaky", "k");
  sql("UPDATE ip_reservations SET lifecycle_allocated_at = now() - interval '2 days'"
      " WHERE tenant_id = '" +
      tenant + "'");
  const auto emitted = ledger->emit_metrics({});
  EXPECT_GE(emitted.leaks(), 1);
  const auto text = ledger->emitted_metrics();
  EXPECT_NE(text.find("ipv4_address_leak_count{tenant_id=\"" + tenant + "\"} 1\n"),
            std::string::npos);
  EXPECT_NE(
      text.find("addrflow_unconfirmed_effects{tenant_id=\"" + tenant + "\",system=\"aaa\"} 1\n"),
      std::string::npos);
}

TEST_F(FamiliesTest, ACutThatIsOwedForOneFamilyIsMadeByTheNextMoveOfTheOther) {
  make_active(kBoth);
  revoke_without_answer(kIpv4);
  const auto next = operate("suspend", "s", "suspended", kIpv6, "coa", "billing");
  EXPECT_EQ(next.radius().action(), "disconnect");
  EXPECT_EQ(wish(next.radius())["condition"], "restricted");
  sessions.seen.stopped_since = true;
  EXPECT_TRUE(look(kIpv4).open()) << "watched under the newer number";
  expect_clean();
}

TEST_F(FamiliesTest, ASitesPrefixIsNotTakenAlongToANasThatItsPoolDoesNotServe) {
  for (const char* nas : {"192.0.2.1", "192.0.2.2"}) ledger->add_nas(nas_record(nas));
  make_active({"ipv4", "ipv6_pd"});
  sql(
      fmt::format("INSERT INTO pool_nas (pool_id, nas_ip) SELECT pool_id, '192.0.2.1' FROM holdings"
                  " WHERE tenant_id = '{}' AND family = 'ipv6_pd'",
                  tenant));
  auto readdress = ask_for("readdress", "r", {"ipv4"});
  readdress.clear_username();
  readdress.set_nas_ip("192.0.2.2");
  EXPECT_EQ(code_of([&] { ledger->claim(readdress); }), ErrorCode::kConflict);
  auto move = ask_for("move", "m", {});
  move.clear_username();
  move.set_nas_ip("192.0.2.2");
  EXPECT_EQ(code_of([&] { ledger->claim(move); }), ErrorCode::kConflict);
  // A prefix that is on its way out stays where it is.
  operate("revoke", "v", "revoking", {"ipv6_pd"}, "disconnect");
  EXPECT_EQ(ledger->claim(move).outcome(), "claimed");
}

TEST_F(FamiliesTest, AFamilyThatIsAddedChangesNothingOfTheLineThatLives) {
  make_active(kIpv4);
  auto added = ask_for("allocate", "x", kIpv6);
  added.set_plan("gold");
  EXPECT_EQ(code_of([&] { ledger->claim(added); }), ErrorCode::kConflict) << "no session is told";
  added.set_plan("default");
  added.set_ipv4_pool_id("prefixes");
  EXPECT_EQ(code_of([&] { ledger->claim(added); }), ErrorCode::kNoSuchPool);
  added.set_ipv4_pool_id("main");
  added.set_restrict_when("all");
  EXPECT_EQ(ledger->claim(added).outcome(), "claimed");
}

TEST_F(FamiliesTest, ADisconnectIsWantedUntilTheLastSpaceThatItCutsIsFree) {
  make_active(kBoth);
  revoke_without_answer(kBoth);
  sessions.seen.stopped_since = true;
  const auto open_effects = [&] { return ledger->view(service("s")).unconfirmed_size(); };
  EXPECT_TRUE(look(kIpv4).open());
  EXPECT_EQ(open_effects(), 1);
  EXPECT_TRUE(look(kIpv6).open());
  EXPECT_EQ(open_effects(), 0);
  expect_clean();
}

TEST_F(FamiliesTest, BothGoThroughTheGateAndTheProfileIsCleared) {
  make_active(kBoth);
  operate("revoke", "r", "revoking", {}, "disconnect");
  EXPECT_EQ(profile("ipv6_state"), "revoking");
  sessions.seen.stopped_since = true;
  EXPECT_TRUE(look(kBoth).open());
  EXPECT_FALSE(binding("ipv4").space_held());
  EXPECT_FALSE(binding("ipv6_pd").space_held());
  EXPECT_EQ(profile("ipv6_assignment_mode, ipv6_prefix, ipv6_state"), "dual_stack revoked");
  EXPECT_EQ(profile("ipv6_revoked_at IS NOT NULL, ipv6_netbox_prefix_id"), "t");
  expect_clean();
}

TEST_F(FamiliesTest, AnotherSizeOrPrefixThanTheOneHeldIsAConflict) {
  allocate_families("a", kBoth);
  auto other = ask_for("allocate", "b", kBoth);
  other.set_ipv6_pd_size(60);
  EXPECT_EQ(code_of([&] { ledger->claim(other); }), ErrorCode::kConflict);
  other.set_ipv6_pd_size(56);
  EXPECT_EQ(ledger->claim(other).outcome(), "nothing");
  other = ask_for("allocate", "c", kBoth);
  other.set_requested_prefix("2001:db8:0:ff00::/56");
  EXPECT_EQ(code_of([&] { ledger->claim(other); }), ErrorCode::kConflict);
}

TEST_F(FamiliesTest, TheFormerHolderGetsItsPrefixBack) {
  make_active(kBoth);
  const auto prefix = binding("ipv6_pd").prefix();
  operate("revoke", "r", "revoking", {}, "disconnect");
  sessions.seen.stopped_since = true;
  EXPECT_TRUE(look(kBoth).open());
  allocate_families("again", kBoth);
  EXPECT_EQ(binding("ipv6_pd").prefix(), prefix);
  EXPECT_EQ(binding("ipv6_pd").generation(), 2);
  EXPECT_EQ(profile("ipv6_prefix"), prefix);
  expect_clean();
}

// --- space that is taken up again, and given back ------------------------------------------------

TEST_F(FamiliesTest, AFailedReallocateLeavesTheGateAsNearToOpenAsItWas) {
  make_active(kIpv4);
  operate("revoke", "r", "revoking", kIpv4, "disconnect");
  const auto withdrawn_by = last.number();
  last = ledger->claim(ask_for("allocate", "again", kBoth)).claim();
  reserve(last);  // the former space; the other family's pool is full
  v1::UndoRequest undo;
  *undo.mutable_claim() = last;
  const auto undone = ledger->undo(undo);
  finish(last, false);
  EXPECT_EQ(undone.aaa().effect_id(), 0) << "AAA has seen nothing since number " << withdrawn_by;
  EXPECT_EQ(undone.more_size(), 0) << "the session is cut already";
  EXPECT_EQ(binding("ipv4").state(), "revoking");
  EXPECT_TRUE(binding("ipv4").space_held());
  sessions.seen.stopped_since = true;
  const auto opened = look(kIpv4);
  EXPECT_TRUE(opened.open()) << opened.detail();
  EXPECT_EQ(opened.evidence(), "strong");
  expect_clean();
}

TEST_F(FamiliesTest, SpaceThatAaaMayHaveHandedOutAgainIsWithdrawnAndItsSessionCut) {
  make_active(kIpv4);
  operate("revoke", "r", "revoking", kIpv4, "disconnect");
  const auto claimed = ledger->claim(ask_for("allocate", "again", kIpv4));
  last = claimed.claim();
  reserve(last);
  send(last, ledger->transition(move(claimed, "allocated")).aaa(), "timeout", "unknown");
  v1::UndoRequest undo;
  *undo.mutable_claim() = last;
  const auto undone = ledger->undo(undo);
  EXPECT_EQ(wish(undone.aaa())["condition"], "refused");
  ASSERT_EQ(undone.more_size(), 1);
  EXPECT_EQ(undone.more(0).action(), "disconnect");
  sessions.seen.stopped_since = true;
  EXPECT_FALSE(look(kIpv4).open()) << "the older withdrawal does not count";
  send(last, undone.aaa());
  send(last, undone.more(0), "ack");
  finish(last, false);
  EXPECT_TRUE(look(kIpv4).open());
  expect_clean();
}

TEST_F(FamiliesTest, KeptSpaceThatWasTakenUpAgainIsKeptAfterTheUndo) {
  make_active(kIpv4);
  auto claimed = ledger->claim(ask_for("revoke", "r", kIpv4));
  auto wanted = move(claimed, "revoking");
  wanted.set_keep_for_subscriber(true);
  send(claimed.claim(), ledger->transition(wanted).aaa());
  finish(claimed.claim());
  last = ledger->claim(ask_for("allocate", "again", kBoth)).claim();
  reserve(last);
  v1::UndoRequest undo;
  *undo.mutable_claim() = last;
  ledger->undo(undo);
  finish(last, false);
  sessions.seen.stopped_since = true;
  EXPECT_TRUE(look(kIpv4).open());
  EXPECT_TRUE(binding("ipv4").space_held()) << "kept for the subscriber";
}

// The families of a line need not be of one generation: a readdress gives one of them the next.
TEST_F(FamiliesTest, SpaceTakenUpAgainFindsItsFormerRowWhateverItsGeneration) {
  make_active(kBoth);
  const auto readdressed = ledger->claim(ask_for("readdress", "x", kIpv4)).claim();
  v1::ReserveRequest instead;
  *instead.mutable_claim() = readdressed;
  instead.set_family("ipv4");
  instead.set_instead(true);
  ledger->reserve(instead);
  auto keep = to(readdressed, "active");
  keep.set_keep_state(true);
  send(readdressed, ledger->transition(keep).aaa());
  finish(readdressed);
  ASSERT_NE(binding("ipv4").generation(), binding("ipv6_pd").generation());
  const auto prefix = binding("ipv6_pd").prefix();

  revoke_without_answer(kIpv6);
  last = ledger->claim(ask_for("allocate", "again", kIpv6)).claim();
  EXPECT_EQ(reserve_prefix(last).address(), prefix);
  v1::UndoRequest undo;
  *undo.mutable_claim() = last;
  const auto undone = ledger->undo(undo);
  finish(last, false);
  EXPECT_EQ(binding("ipv6_pd").state(), "revoking");
  EXPECT_EQ(binding("ipv6_pd").generation(), 1);
  EXPECT_TRUE(binding("ipv6_pd").space_held());
  ASSERT_EQ(undone.more_size(), 1) << "its Disconnect is still owed";
  EXPECT_EQ(undone.more(0).action(), "disconnect");
  expect_clean();
}

TEST_F(FamiliesTest, AFamilyThatIsLeftOutAfterAllIsOnItsWayOutAsBefore) {
  make_active(kIpv6);
  operate("revoke", "r", "revoking", kIpv6, "disconnect");
  last = ledger->claim(ask_for("allocate", "again", kBoth)).claim();
  reserve(last);
  reserve_prefix(last);
  v1::UndoRequest undo;
  *undo.mutable_claim() = last;
  undo.set_family("ipv6_pd");
  ledger->undo(undo);
  EXPECT_EQ(binding("ipv6_pd").state(), "revoking");
  EXPECT_TRUE(binding("ipv6_pd").space_held());
  expect_clean();
}

TEST_F(FamiliesTest, AFamilyWhoseDisconnectNobodyConfirmedIsNotCalledRevoked) {
  make_active(kBoth);
  revoke_without_answer(kIpv4);
  const auto failed = ledger->claim(ask_for("readdress", "x", kIpv6)).claim();
  v1::UndoRequest undo;
  *undo.mutable_claim() = failed;
  const auto undone = ledger->undo(undo);
  finish(failed, false);
  ASSERT_EQ(undone.more_size(), 1);
  EXPECT_EQ(undone.more(0).action(), "disconnect");
  // A settlement with nothing to wait for comes to nothing.
  auto settled = to(failed, "revoked");
  settled.set_plan_aaa(false);
  settled.set_step("revoked");
  ledger->transition(settled);
  EXPECT_EQ(binding("ipv4").state(), "revoking");
  send(failed, undone.more(0), "ack");
  ledger->transition(settled);
  EXPECT_EQ(binding("ipv4").state(), "revoked");
  expect_clean();
}

}  // namespace
}  // namespace addrflow::ledger
