#include "activity_worker.hpp"

#include <gtest/gtest.h>

#include <future>
#include <set>
#include <string>
#include <thread>

#include "pollers/fake_transport.hpp"

namespace tempora::activity {
namespace {

using namespace std::chrono_literals;
namespace api = temporal::api::workflowservice::v1;

struct Activities {
  std::shared_ptr<pollers::FakeTransport> transport = std::make_shared<pollers::FakeTransport>();
  std::shared_ptr<pollers::CallEnvironment> environment =
      std::make_shared<pollers::CallEnvironment>(transport, "default");
  std::shared_ptr<ActivityWorker> worker;
  std::promise<void> began;
  std::promise<void> release;
  std::atomic<int> runs{0};

  Activities() {
    const auto registry = std::make_shared<ActivityRegistry>();
    registry->add("once", [this](ActivityContext&, const Payloads&) {
      if (++runs == 1) {
        began.set_value();
        release.get_future().wait();
      }
      return Payloads{};
    });
    ActivityWorkerOptions options;
    options.namespace_ = "default";
    options.max_by_type = {{"once", 1}};
    options.metrics = no_metrics();
    worker = std::make_shared<ActivityWorker>(environment, registry, std::move(options));
  }
  ~Activities() {
    while (!answered().empty()) {
    }
    worker->abandon();
  }

  void accept(const std::string& token, std::chrono::nanoseconds start_to_close) const {
    auto task = std::make_unique<ActivityWorker::Task>();
    task->set_task_token(token);
    task->mutable_activity_type()->set_name("once");
    const auto seconds = std::chrono::floor<std::chrono::seconds>(start_to_close);
    task->mutable_start_to_close_timeout()->set_seconds(seconds.count());
    task->mutable_start_to_close_timeout()->set_nanos(
        static_cast<int>((start_to_close - seconds).count()));
    worker->accept(std::move(task), {}, false);
  }
  void start(const std::string& token) {
    accept(token, 24h);
    began.get_future().wait();
  }
  // The method of the next answer, which is not taken; empty if there is none.
  std::string answered() const {
    const auto call = transport->take();
    if (call == nullptr) return {};
    call->fail(grpc_code::kNotFound);
    return call->method;
  }
  // Lets the first one return, and waits until all that waits has had its turn.
  void end() {
    release.set_value();
    while (worker->numbers().processed + static_cast<int>(transport->started()) < 2)
      std::this_thread::yield();
    worker->stop_threads(TimerQueue::Clock::now() + 10s);
  }
};

TEST(ActivityWorker, LeavesNoTimerBehind) {
  Activities activities;
  activities.start("token");
  activities.release.set_value();
  activities.worker->stop_threads(TimerQueue::Clock::now() + 10s);
  const auto answer = activities.transport->take();
  ASSERT_NE(answer, nullptr);
  EXPECT_EQ(answer->method, "RespondActivityTaskCompleted");
  answer->answer(api::RespondActivityTaskCompletedResponse{});
  EXPECT_FALSE(activities.environment->timers->cancel(1)) << "the first and only timer is gone";
}

TEST(ActivityWorker, TellsTheWorkflowThatACodecRefusedTheResult) {
  Activities activities;
  activities.start("token");
  activities.release.set_value();
  activities.worker->stop_threads(TimerQueue::Clock::now() + 10s);
  activities.transport->take()->fail(grpc_code::kInvalidArgument, "payload codec: no key");
  const auto instead = activities.transport->take();
  ASSERT_NE(instead, nullptr);
  EXPECT_EQ(instead->method, "RespondActivityTaskFailed");
  api::RespondActivityTaskFailedRequest request;
  ASSERT_TRUE(request.ParseFromString(instead->request));
  EXPECT_EQ(request.failure().application_failure_info().type(), "CodecError");
  instead->fail(grpc_code::kInvalidArgument, "payload codec: no key");
  EXPECT_EQ(activities.transport->take(), nullptr) << "it is said once";
}

TEST(ActivityWorker, DoesNotRunWhatWasCancelledBeforeItsTurnCame) {
  Activities activities;
  activities.start("first");
  activities.accept("second", 24h);
  activities.worker->cancel_running(CancelReason::kRequested);
  activities.end();
  EXPECT_EQ(activities.runs, 1);
  // Each is answered by a thread of its own: in any order.
  const std::set<std::string> answers{activities.answered(), activities.answered()};
  EXPECT_EQ(answers,
            (std::set<std::string>{"RespondActivityTaskCanceled", "RespondActivityTaskCompleted"}));
}

TEST(ActivityWorker, DoesNotRunWhatHasTimedOutBeforeItsTurnCame) {
  Activities activities;
  activities.start("first");
  activities.accept("second", 1ns);
  activities.end();
  EXPECT_EQ(activities.runs, 1);
  EXPECT_EQ(activities.transport->started(), 1U) << "the server has ended the second by itself";
}

}  // namespace
}  // namespace tempora::activity
