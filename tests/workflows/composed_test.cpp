// The workflows on a real Temporal server: real worker, real client, real updates between
// workflows. Only the outer world (ledger, AAA, NAS, NetBox) is played.
#include "fake_ledger.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>
#include <addrflow/compose/compose.hpp>
#include <addrflow/domain/ids.hpp>
#include <addrflow/workflows/names.hpp>
#include <addrflow/workflows/registry.hpp>
#include <peers.hpp>

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <tempora/client.hpp>
#include <tempora/replayer.hpp>
#include <tempora/worker.hpp>
#include <thread>

namespace addrflow::workflows::testing {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using ::testing::HasSubstr;

// All services' ledgers, and who composes for whom. Called by many activities at once.
class World {
 public:
  template <class F>
  auto with(const std::string& subscriber, F function) {
    const std::lock_guard lock{mutex_};
    FakeLedger& ledger = ledgers_[subscriber];
    ledger.subscriber = subscriber;
    return function(ledger);
  }

  // Effects named so wait until they are let go.
  void hold(const std::string& effect) {
    const std::lock_guard lock{mutex_};
    held_ = effect;
  }
  void let_go() {
    {
      const std::lock_guard lock{mutex_};
      held_.clear();
    }
    changed_.notify_all();
  }

  v1::EffectReply apply(const v1::EffectRequest& request) {
    std::unique_lock lock{mutex_};
    const std::string name = request.effect().system() + "/" + request.effect().action();
    changed_.wait(lock, [&] { return held_ != name; });
    return ledgers_[request.service().subscriber_id()].apply(request);
  }

  v1::ComposeClaimReply compose_claim(const v1::ComposeClaimRequest& request) {
    const std::lock_guard lock{mutex_};
    Composing& composing = composing_[request.service().subscriber_id()];
    v1::ComposeClaimReply reply;
    *reply.mutable_pace() = pace();
    if (const auto done = composing.done.find(request.key()); done != composing.done.end()) {
      reply.set_outcome("recorded");
      *reply.mutable_result() = done->second;
      return reply;
    }
    const bool free = composing.run_id.empty() || composing.run_id == request.run_id() ||
                      composing.run_id == request.take_over_from();
    if (free) {
      composing.workflow_id = request.workflow_id();
      composing.run_id = request.run_id();
      composing.kind = request.kind();
      composing.hash = request.request_hash();
      reply.set_outcome("claimed");
      return reply;
    }
    const bool same = composing.hash == request.request_hash();
    const bool stronger = request.kind() == "deprovision" && composing.kind == "provision";
    reply.set_outcome(same ? "join" : stronger ? "preempt" : "busy");
    reply.set_workflow_id(composing.workflow_id);
    reply.set_run_id(composing.run_id);
    return reply;
  }

  v1::Empty compose_finish(const v1::ComposeFinishRequest& request) {
    const std::lock_guard lock{mutex_};
    Composing& composing = composing_[request.service().subscriber_id()];
    if (composing.run_id == request.run_id()) composing.run_id.clear();
    composing.done[request.key()] = request.result();
    return {};
  }

  static v1::Pace pace() {
    v1::Pace pace;
    pace.set_answer_wait_ms(300);
    pace.set_effect_retry_ms(50);
    pace.set_effect_retry_max_ms(200);
    pace.set_gate_poll_ms(50);
    pace.set_netbox_timeout_ms(20'000);
    pace.set_radius_timeout_ms(20'000);
    return pace;
  }

 private:
  struct Composing {
    std::string workflow_id;
    std::string run_id;
    std::string kind;
    std::string hash;
    std::map<std::string, v1::CompositionResult> done;
  };
  std::mutex mutex_;
  std::condition_variable changed_;
  std::string held_;
  std::map<std::string, FakeLedger> ledgers_;
  std::map<std::string, Composing> composing_;
};

tempora::Client connect() {
  tempora::ConnectionOptions options;
  options.address = addrflow::testing::need_peer("TEMPORAL_ADDRESS");
  auto client = tempora::Client::connect(options);
  EXPECT_TRUE(client) << client.error().text();
  // A namespace of its own: the queues have fixed names, and other tests run their own workers.
  options.namespace_ = "workflows-" + std::to_string(getpid());
  const auto made = client->register_namespace(options.namespace_, std::chrono::hours{24});
  EXPECT_TRUE(made || made.error().code == tempora::ErrorCode::kAlreadyExists)
      << made.error().text();
  options.check_namespace = true;
  // It is usable some seconds later.
  const auto until = std::chrono::steady_clock::now() + 30s;
  for (;;) {
    auto own = tempora::Client::connect(options);
    if (own || std::chrono::steady_clock::now() > until) return own.value();
    std::this_thread::yield();
  }
}

class Composed : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    world_ = new World;
    client_ = new tempora::Client{connect()};
    for (const char* queue : {catalog::kMainQueue, catalog::kComposeQueue, catalog::kNetboxQueue,
                              catalog::kRadiusQueue}) {
      tempora::WorkerOptions options;
      options.task_queue = queue;
      options.shutdown_patience = 5s;
      workers_.push_back(std::make_unique<tempora::Worker>(*client_, options));
    }
    add_workflows_to(*workers_[0]);
    plays(*workers_[0]);
    compose::register_activities(*workers_[1],
                                 compose::ComposeActivities{*client_, {.slice = 500ms}});
    workers_[2]->add(catalog::kNetboxApply, effect);
    workers_[3]->add(catalog::kRadiusSend, effect);
    for (const auto& worker : workers_) worker->start();
  }

  static void TearDownTestSuite() {
    world_->let_go();
    for (const auto& worker : workers_) worker->stop_polling();
    workers_.clear();
    const tempora::Replayer replayer{workflow_registry()};
    for (const tempora::WorkflowHandle& handle : started_) {
      const auto history = handle.history();
      if (!history) continue;
      const auto replayed = replayer.replay(**history);
      EXPECT_TRUE(replayed) << handle.id() << ": " << replayed.error().message;
    }
    started_.clear();
    delete client_;
    delete world_;
  }

  static v1::EffectReply effect(tempora::ActivityContext&, const v1::EffectRequest& request) {
    return world_->apply(request);
  }

  // Every ledger activity, each answered by the ledger of the service that it names.
  static void plays(tempora::Worker& worker) {
    worker.add(catalog::kPending, [](auto&, const v1::ViewRequest& r) {
      return world_->with(r.service().subscriber_id(), [&](FakeLedger& l) {
        v1::PendingReply reply = l.pending;
        *reply.mutable_pace() = World::pace();
        return reply;
      });
    });
    worker.add(catalog::kClaim, [](auto&, const v1::ClaimRequest& r) {
      return world_->with(r.service().subscriber_id(), [&](FakeLedger& l) {
        v1::ClaimReply reply = l.claim(r);
        *reply.mutable_pace() = World::pace();
        return reply;
      });
    });
    worker.add(catalog::kReserve, [](auto&, const v1::ReserveRequest& r) {
      return world_->with(r.claim().service().subscriber_id(),
                          [&](FakeLedger& l) { return l.reserve(r); });
    });
    worker.add(catalog::kTransition, [](auto&, const v1::TransitionRequest& r) {
      return world_->with(r.claim().service().subscriber_id(),
                          [&](FakeLedger& l) { return l.transition(r); });
    });
    worker.add(catalog::kFinish, [](auto&, const v1::FinishRequest& r) {
      return world_->with(r.claim().service().subscriber_id(),
                          [&](FakeLedger& l) { return l.finish(r); });
    });
    worker.add(catalog::kUndo, [](auto&, const v1::UndoRequest& r) {
      return world_->with(r.claim().service().subscriber_id(),
                          [&](FakeLedger& l) { return l.undo(r); });
    });
    worker.add(catalog::kGate, [](auto&, const v1::GateRequest& r) {
      return world_->with(r.service().subscriber_id(), [&](FakeLedger& l) { return l.gate(r); });
    });
    worker.add(catalog::kAudit, [](auto&, const v1::AuditRequest& r) {
      return world_->with(r.service().subscriber_id(), [&](FakeLedger& l) {
        l.audited.push_back(r);
        return v1::Empty{};
      });
    });
    worker.add(catalog::kAaaApply, effect);
    worker.add(catalog::kComposeClaim,
               [](auto&, const v1::ComposeClaimRequest& r) { return world_->compose_claim(r); });
    worker.add(catalog::kComposeFinish,
               [](auto&, const v1::ComposeFinishRequest& r) { return world_->compose_finish(r); });
  }

  static tempora::WorkflowHandle start(const std::string& type, const std::string& id,
                                       const json& input) {
    auto handle = client_->start(type, {.id = id, .task_queue = kTaskQueue}, input);
    EXPECT_TRUE(handle) << handle.error().text();
    started_.push_back(*handle);
    return *handle;
  }
  static json input(const std::string& subscriber) {
    return {{"tenant_id", "acme"}, {"customer_id", subscriber}};
  }
  // Waits for something that another thread brings about.
  template <class F>
  static bool comes_true(F condition) {
    const auto until = std::chrono::steady_clock::now() + 30s;
    while (!condition()) {
      if (std::chrono::steady_clock::now() > until) return false;
      std::this_thread::yield();
    }
    return true;
  }
  static tempora::WorkflowHandle service_of(const std::string& subscriber) {
    auto handle = client_->handle(domain::service_workflow_id({"acme", subscriber, "internet"}));
    started_.push_back(handle);
    return handle;
  }
  static std::optional<domain::State> state_of(const std::string& subscriber) {
    return world_->with(subscriber, [](FakeLedger& l) { return l.state; });
  }

  static inline World* world_ = nullptr;
  static inline tempora::Client* client_ = nullptr;
  static inline std::vector<std::unique_ptr<tempora::Worker>> workers_;
  static inline std::vector<tempora::WorkflowHandle> started_;
};

TEST_F(Composed, ALifeFromProvisionToDeprovision) {
  const auto provisioned = start("ProvisionSubscriber", "p-life", input("life")).result<json>();
  ASSERT_TRUE(provisioned) << provisioned.error().text();
  EXPECT_EQ((*provisioned)["context"]["ipv4_address"], "203.0.113.7");
  EXPECT_EQ((*provisioned)["context"]["ipv4_lifecycle_state"], "ACTIVE");
  json hold = input("life");
  hold["reason"] = "billing";
  const auto suspended = start("SuspendSubscriber", "s-life", hold).result<json>();
  ASSERT_TRUE(suspended) << suspended.error().text();
  EXPECT_EQ((*suspended)["result"]["coa_result"]["code"], "CoA-ACK");
  const auto reactivated = start("ReactivateSubscriber", "r-life", hold).result<json>();
  ASSERT_TRUE(reactivated) << reactivated.error().text();
  const auto gone = start("DeprovisionSubscriber", "d-life", input("life")).result<json>();
  ASSERT_TRUE(gone) << gone.error().text();
  EXPECT_EQ((*gone)["context"]["ipv4_lifecycle_state"], "REVOKED");
  EXPECT_TRUE(service_of("life").result()) << "the service's workflow has ended by itself";
}

TEST_F(Composed, ADualStackLifeFromProvisionToDeprovision) {
  json both = input("dual");
  both["enable_ipv6"] = true;
  both["ipv6_pd_size"] = 56;
  const auto provisioned = start("ProvisionSubscriber", "p-dual", both).result<json>();
  ASSERT_TRUE(provisioned) << provisioned.error().text();
  EXPECT_EQ((*provisioned)["context"]["ipv4_address"], "203.0.113.7");
  EXPECT_EQ((*provisioned)["context"]["ipv6_prefix"], "2001:db8:1200::/56");
  EXPECT_EQ((*provisioned)["context"]["ipv6_lifecycle_state"], "ACTIVE");
  json hold = input("dual");
  hold["reason"] = "billing";
  ASSERT_TRUE(start("SuspendSubscriber", "s-dual", hold).result<json>());
  hold["families"] = {"ipv6_pd"};
  const auto resumed = start("ReactivateSubscriber", "r-dual", hold).result<json>();
  ASSERT_TRUE(resumed) << resumed.error().text();
  EXPECT_EQ((*resumed)["context"]["ipv4_lifecycle_state"], "SUSPENDED");
  EXPECT_EQ((*resumed)["context"]["ipv6_lifecycle_state"], "ACTIVE");
  const auto gone = start("DeprovisionSubscriber", "d-dual", input("dual")).result<json>();
  ASSERT_TRUE(gone) << gone.error().text();
  EXPECT_EQ((*gone)["context"]["ipv4_lifecycle_state"], "REVOKED");
  EXPECT_EQ((*gone)["context"]["ipv6_lifecycle_state"], "REVOKED");
  EXPECT_TRUE(service_of("dual").result()) << "the service's workflow has ended by itself";
}

TEST_F(Composed, ARefusalNamesItsCode) {
  world_->with("full", [](FakeLedger& l) { l.reserve_refusal = "pool_exhausted"; });
  const auto refused = start("ProvisionSubscriber", "p-full", input("full")).result<json>();
  ASSERT_FALSE(refused);
  ASSERT_NE(refused.error().application_error(), nullptr);
  EXPECT_EQ(refused.error().application_error()->type(), "pool_exhausted");
  EXPECT_EQ(refused.error().application_error()->message(), "No available IP addresses");
  EXPECT_TRUE(refused.error().application_error()->detail<v1::CompositionResult>());

  const auto bad = start("ProvisionSubscriber", "p-bad", {{"tenant_id", "acme"}}).result<json>();
  ASSERT_FALSE(bad);
  EXPECT_THAT(bad.error().application_error()->message(), HasSubstr("subscriber_id"));
}

TEST_F(Composed, ARefusedCoaUndoesTheProvision) {
  world_->with("undo", [](FakeLedger& l) {
    l.world["radius/coa"] = [](int) { return effect_reply("refused", "CoA-NAK"); };
  });
  json wanted = input("undo");
  wanted["send_coa"] = true;
  wanted["on_coa_failure"] = "fail";
  const auto failed = start("ProvisionSubscriber", "p-undo", wanted).result<json>();
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().application_error()->type(), "coa_failed");
  EXPECT_EQ(state_of("undo"), domain::State::kRevoked);
}

TEST_F(Composed, IdenticalOnesShareOneResultAndADifferentOneConflicts) {
  world_->hold("aaa/apply");
  const auto first = start("ProvisionSubscriber", "p-join-1", input("join"));
  ASSERT_TRUE(comes_true(
      [] { return world_->with("join", [](FakeLedger& l) { return l.state.has_value(); }); }));
  const auto second = start("ProvisionSubscriber", "p-join-2", input("join"));
  json other = input("join");
  other["plan"] = "another";
  const auto third = start("ProvisionSubscriber", "p-join-3", other).result<json>();
  ASSERT_FALSE(third);
  EXPECT_EQ(third.error().application_error()->type(), "conflict");
  world_->let_go();
  const auto one = first.result<v1::CompositionResult>();
  const auto two = second.result<v1::CompositionResult>();
  ASSERT_TRUE(one) << one.error().text();
  ASSERT_TRUE(two) << two.error().text();
  EXPECT_EQ(one->context().ipv4_address(), two->context().ipv4_address());
  EXPECT_EQ(two->joined_workflow_id(), "p-join-1");
}

TEST_F(Composed, ADeprovisionMakesARunningProvisionGiveUp) {
  world_->hold("netbox/reserve");
  const auto provision = start("ProvisionSubscriber", "p-preempt", input("preempt"));
  ASSERT_TRUE(comes_true(
      [] { return world_->with("preempt", [](FakeLedger& l) { return l.number > 0; }); }));
  const auto deprovision = start("DeprovisionSubscriber", "d-preempt", input("preempt"));
  world_->let_go();
  const auto gone = deprovision.result<v1::CompositionResult>();
  ASSERT_TRUE(gone) << gone.error().text();
  const auto gave_up = provision.result<v1::CompositionResult>();
  ASSERT_FALSE(gave_up);
  EXPECT_EQ(gave_up.error().application_error()->type(), "gave_up");
  EXPECT_EQ(state_of("preempt"), domain::State::kRevoked);
}

TEST_F(Composed, ASlowNasIsPendingAndLaterConfirmed) {
  world_->with("slow", [](FakeLedger& l) { l.state = domain::State::kActive; });
  world_->hold("radius/coa");
  v1::SuspendRequest request;
  request.mutable_caller()->set_key("slow-1");
  const auto answer = client_->update_with_start<v1::LifecycleResult>(
      service_lifecycle::kName,
      {.id = service_of("slow").id(),
       .task_queue = kTaskQueue,
       .conflict = tempora::IdConflictPolicy::kUseExisting},
      {}, service_lifecycle::kSuspend, {.id = "suspend:slow-1"}, request);
  ASSERT_TRUE(answer) << answer.error().text();
  EXPECT_EQ(answer->outcome.state(), "suspended");
  EXPECT_EQ(answer->outcome.enforcement(), "pending");
  const auto status = answer->workflow.query<v1::ServiceStatus>(service_lifecycle::kStatus);
  ASSERT_TRUE(status) << status.error().text();
  EXPECT_EQ(status->pursuing_size(), 1);
  world_->let_go();
  EXPECT_TRUE(answer->workflow.result());
  EXPECT_EQ(world_->with("slow", [](FakeLedger& l) { return l.log.back(); }), "radius/coa");
}

TEST_F(Composed, ASignalReachesARestingService) {
  world_->with("resting", [](FakeLedger& l) { l.state = domain::State::kActive; });
  const auto signalled = client_->signal_with_start(
      service_lifecycle::kName, {.id = service_of("resting").id(), .task_queue = kTaskQueue}, {},
      service_lifecycle::kSuspend, json{{"caller", {{"reason", "abuse"}}}});
  ASSERT_TRUE(signalled) << signalled.error().text();
  EXPECT_TRUE(signalled->result());
  EXPECT_EQ(state_of("resting"), domain::State::kSuspended);
  // One that cannot be read goes on record, and harms nothing.
  const auto unreadable = client_->signal_with_start(
      service_lifecycle::kName, {.id = service_of("resting").id(), .task_queue = kTaskQueue}, {},
      service_lifecycle::kRevoke, json{{"no_such_field", 1}});
  ASSERT_TRUE(unreadable) << unreadable.error().text();
  EXPECT_TRUE(unreadable->result());
  EXPECT_EQ(world_->with("resting", [](FakeLedger& l) { return l.audited.size(); }), 1U);
}

TEST_F(Composed, AWakeStartsARestingServiceAndLetsItEnd) {
  compose::ClientWaker waker{*client_};
  v1::ServiceRef service;
  service.set_tenant_id("acme");
  service.set_subscriber_id("woken");
  service.set_service("internet");
  waker.wake(service);
  EXPECT_TRUE(service_of("woken").result());
}

TEST_F(Composed, ManyUpdatesOnOneServiceAreAllAnswered) {
  world_->with("busy", [](FakeLedger& l) { l.state = domain::State::kActive; });
  std::vector<std::jthread> callers;
  std::atomic<int> answered{0};
  for (int i = 0; i < 8; ++i) {
    callers.emplace_back([&answered, i] {
      for (int j = 0; j < 5; ++j) {
        v1::SuspendRequest request;
        request.mutable_caller()->set_key("b-" + std::to_string(i) + "-" + std::to_string(j));
        const auto answer = client_->update_with_start<v1::LifecycleResult>(
            service_lifecycle::kName,
            {.id = "service/acme/busy/internet",
             .task_queue = kTaskQueue,
             .conflict = tempora::IdConflictPolicy::kUseExisting},
            {}, service_lifecycle::kSuspend, {.id = "suspend:" + request.caller().key()}, request);
        if (answer && answer->outcome.success()) ++answered;
      }
    });
  }
  callers.clear();
  EXPECT_EQ(answered.load(), 40);
}

}  // namespace
}  // namespace addrflow::workflows::testing
