// A worker's heartbeats where the server was away when the worker started.
#include "worker_heartbeat.hpp"

#include <gtest/gtest.h>
#include <temporal/api/workflowservice/v1/request_response.pb.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <future>
#include <mutex>
#include <tempora/worker.hpp>

#include "fake_transport.hpp"

namespace tempora::pollers {
namespace {

using namespace std::chrono_literals;
namespace api = temporal::api::workflowservice::v1;

// Lets a test wait for the next call.
class Heard : public FakeTransport {
 public:
  std::shared_ptr<PendingCall> start(std::string_view method,
                                     const google::protobuf::Message& request,
                                     google::protobuf::Message* response, CallOptions options,
                                     std::function<void(CallStatus)> done) override {
    std::unique_lock lock{gate_};
    if (closed_) {
      lock.unlock();
      done({.code = grpc_code::kCancelled, .message = "closed"});
      return std::make_shared<Call>();
    }
    auto call =
        FakeTransport::start(method, request, response, std::move(options), std::move(done));
    heard_.notify_all();
    return call;
  }
  // Null if none comes.
  std::shared_ptr<Call> next() {
    std::shared_ptr<Call> call;
    std::unique_lock lock{gate_};
    heard_.wait_for(lock, 10s, [&] {
      call = take();
      return call != nullptr;
    });
    return call;
  }
  void close() {
    {
      const std::lock_guard lock{gate_};
      closed_ = true;
    }
    while (const auto call = take()) call->cancel();
  }

 private:
  std::mutex gate_;
  std::condition_variable heard_;
  bool closed_ = false;
};

struct Beating {
  std::shared_ptr<Heard> transport = std::make_shared<Heard>();
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

// Cannot be asked about its namespace the first time.
class LateServer : public FakeTransport {
 public:
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
      done({});
      if (!beaten_.exchange(true)) first_beat.set_value();
    } else if (method.ends_with("/ShutdownWorker")) {
      told_last = static_cast<const api::ShutdownWorkerRequest&>(request).has_worker_heartbeat();
      done({.code = grpc_code::kUnimplemented, .message = "scripted"});
    } else {
      return FakeTransport::start(method, request, response, std::move(options), std::move(done));
    }
    return std::make_shared<Call>();
  }

  std::promise<void> first_beat;
  std::atomic<bool> told_last{false};

 private:
  std::atomic<bool> asked_{false};
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
  EXPECT_TRUE(server->told_last);
}

}  // namespace
}  // namespace tempora::pollers
