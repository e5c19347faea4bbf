// A worker's heartbeats: what they say, and where the server was away when the worker started.
#include "worker_heartbeat.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <temporal/api/workflowservice/v1/request_response.pb.h>

#include <atomic>
#include <chrono>
#include <future>
#include <mutex>
#include <tempora/definition.hpp>
#include <tempora/prometheus.hpp>
#include <tempora/worker.hpp>
#include <utility>

#include "fake_transport.hpp"
#include "testing/history_builder.hpp"

namespace tempora::pollers {
namespace {

using namespace std::chrono_literals;
namespace api = temporal::api::workflowservice::v1;
using ::testing::HasSubstr;

struct Beating {
  std::shared_ptr<FakeTransport> transport = std::make_shared<FakeTransport>();
  std::shared_ptr<CallEnvironment> environment =
      std::make_shared<CallEnvironment>(transport, "default");
  std::shared_ptr<WorkerHeartbeats> heartbeats = std::make_shared<WorkerHeartbeats>(
      environment, "default", "worker", 1ms,
      [](WorkerHeartbeats::Heartbeat& beat) { beat.set_task_queue("queue"); });

  Beating() { heartbeats->start_when_wanted(); }
  Beating(const Beating&) = delete;
  Beating& operator=(const Beating&) = delete;
  ~Beating() {
    heartbeats->stop();
    transport->close();
  }
};

TEST(LateHeartbeats, BeginWhenAServerThatWasAwayWantsThem) {
  const Beating beating;
  const auto refused = beating.transport->next();
  ASSERT_NE(refused, nullptr);
  EXPECT_EQ(refused->method, "DescribeNamespace");
  refused->fail(grpc_code::kUnavailable);
  const auto asked = beating.transport->next();
  ASSERT_NE(asked, nullptr);
  ASSERT_EQ(asked->method, "DescribeNamespace");
  api::DescribeNamespaceResponse answer;
  answer.mutable_namespace_info()->mutable_capabilities()->set_worker_heartbeats(true);
  asked->answer(answer);
  for (int i = 0; i < 2; ++i) {
    const auto beat = beating.transport->next();
    ASSERT_NE(beat, nullptr);
    ASSERT_EQ(beat->method, "RecordWorkerHeartbeat");
    api::RecordWorkerHeartbeatRequest request;
    ASSERT_TRUE(request.ParseFromString(beat->request));
    EXPECT_EQ(request.worker_heartbeat(0).task_queue(), "queue");
    beat->answer(api::RecordWorkerHeartbeatResponse{});
  }
}

TEST(LateHeartbeats, StayAwayFromANamespaceThatDoesNotWantThem) {
  const Beating beating;
  const auto asked = beating.transport->next();
  ASSERT_NE(asked, nullptr);
  asked->answer(api::DescribeNamespaceResponse{});
  // Timers run one after the other: one that was set by the answer runs before this one.
  const auto later = std::make_shared<std::promise<void>>();
  beating.environment->timers->after(10ms, [later] { later->set_value(); });
  ASSERT_EQ(later->get_future().wait_for(10s), std::future_status::ready);
  EXPECT_EQ(beating.transport->started(), 1U);
}

// Cannot be asked about its namespace the first time, unless it is not late.
class LateServer : public FakeTransport {
 public:
  explicit LateServer(bool late = true) : asked_(!late) {}

  std::shared_ptr<PendingCall> start(std::string_view method,
                                     const google::protobuf::Message& request,
                                     google::protobuf::Message* response, CallOptions options,
                                     std::function<void(CallStatus)> done) override {
    if (method.ends_with("/DescribeNamespace")) {
      if (!asked_.exchange(true)) {
        done({.code = grpc_code::kPermissionDenied, .message = "not yet"});
      } else {
        static_cast<api::DescribeNamespaceResponse&>(*response)
            .mutable_namespace_info()
            ->mutable_capabilities()
            ->set_worker_heartbeats(true);
        done({});
      }
    } else if (method.ends_with("/RecordWorkerHeartbeat")) {
      auto beat =
          static_cast<const api::RecordWorkerHeartbeatRequest&>(request).worker_heartbeat(0);
      done({});
      if (!beaten_.exchange(true)) first_beat.set_value(std::move(beat));
    } else if (method.ends_with("/ShutdownWorker")) {
      last = static_cast<const api::ShutdownWorkerRequest&>(request);
      done({.code = grpc_code::kUnimplemented, .message = "scripted"});
    } else {
      return FakeTransport::start(method, request, response, std::move(options), std::move(done));
    }
    return std::make_shared<Call>();
  }

  std::promise<WorkerHeartbeats::Heartbeat> first_beat;
  api::ShutdownWorkerRequest last;  // once the worker has stopped

 private:
  std::atomic<bool> asked_;
  std::atomic<bool> beaten_{false};
};

const ActivityType<Void, Void> kNothing{"nothing", {.start_to_close = 1s}};

TEST(LateHeartbeats, OfAWorkerThatStartedBeforeItsServerAreSent) {
  const auto server = std::make_shared<LateServer>();
  WorkerOptions options;
  options.task_queue = "queue";
  options.heartbeat_interval = 1s;
  Worker worker{server, "default", options};
  worker.add(kNothing, [](ActivityContext&, const Void&) { return Void{}; });
  worker.start();
  EXPECT_EQ(server->first_beat.get_future().wait_for(10s), std::future_status::ready);
  worker.shutdown();
  EXPECT_TRUE(server->last.has_worker_heartbeat());
}

const ActivityType<Void, Void> kRefuses{"refuses", {.start_to_close = 1s}};

struct InTheWorker {
  Task<void> run(Context& ctx) {
    try {
      co_await ctx.start_local(kRefuses);
    } catch (const ActivityError&) {
    }
    co_await ctx.start_local(kNothing);
  }
};
const Definition<InTheWorker> kInTheWorker{"InTheWorker", run(&InTheWorker::run)};

TEST(Heartbeats, AndMeasurementsTellOfLocalActivitiesAsOfOtherWork) {
  const auto server = std::make_shared<LateServer>(/*late=*/false);
  const auto metrics = std::make_shared<PrometheusMetrics>();
  WorkerOptions options;
  options.task_queue = testing::kQueue;
  options.max_concurrent_local_activities = 7;
  options.resources = ResourceLimits{};
  options.metrics = metrics;
  Worker worker{server, "default", options};
  worker.add(kInTheWorker);
  worker.add(kNothing, [](ActivityContext&, const Void&) { return Void{}; });
  worker.add(kRefuses, [](ActivityContext&, const Void&) -> Void {
    throw ApplicationError{"no", "Refused", true};
  });
  worker.start();
  auto beat = server->first_beat.get_future();
  ASSERT_EQ(beat.wait_for(10s), std::future_status::ready);
  const auto first = beat.get().local_activity_slots_info();
  EXPECT_EQ(first.current_available_slots(), 7);
  EXPECT_EQ(first.current_used_slots(), 0);
  EXPECT_EQ(first.slot_supplier_kind(), "Fixed") << "they have no gate";

  const auto poll = server->next("PollWorkflowTaskQueue");
  ASSERT_NE(poll, nullptr);
  poll->answer(testing::HistoryBuilder{}.started("InTheWorker").task_started().full_task());
  const auto completed = server->next("RespondWorkflowTaskCompleted");
  ASSERT_NE(completed, nullptr);
  completed->answer(api::RespondWorkflowTaskCompletedResponse{});
  worker.shutdown();
  const auto& last = server->last.worker_heartbeat().local_activity_slots_info();
  EXPECT_EQ(last.total_processed_tasks(), 2);
  EXPECT_EQ(last.total_failed_tasks(), 1);
  const std::string tags =
      R"({namespace="default",task_queue="queue",worker_type="LocalActivityWorker"})";
  const std::string text = metrics->text();
  EXPECT_THAT(text, HasSubstr("temporal_worker_start_total" + tags + " 1\n"));
  EXPECT_THAT(text, HasSubstr("temporal_worker_task_slots_available" + tags + " 7\n"));
  EXPECT_THAT(text, HasSubstr("temporal_worker_task_slots_used" + tags + " 0\n"));
}

}  // namespace
}  // namespace tempora::pollers
