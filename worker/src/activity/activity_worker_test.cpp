#include "activity_worker.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <future>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "pollers/fake_transport.hpp"

namespace tempora::activity {
namespace {

using namespace std::chrono_literals;
namespace api = temporal::api::workflowservice::v1;

constexpr const char* kTooMuch = "Sent message larger than max: [TMPRL1103] details";

// Counts the warnings that speak of heartbeats, and does something at each.
struct HeartbeatWarnings : LogSink {
  std::atomic<int> count{0};
  std::function<void()> then;

  bool enabled(LogLevel level) const override { return level >= LogLevel::kWarn; }
  void write(LogLevel /*level*/, std::string_view message,
             std::span<const LogField> /*fields*/) override {
    if (message.find("heartbeat") == std::string_view::npos) return;
    ++count;
    if (then) then();
  }
};

struct Activities {
  std::shared_ptr<HeartbeatWarnings> warnings = std::make_shared<HeartbeatWarnings>();
  std::shared_ptr<pollers::FakeTransport> transport = std::make_shared<pollers::FakeTransport>();
  std::shared_ptr<pollers::CallEnvironment> environment =
      std::make_shared<pollers::CallEnvironment>(transport, "default");
  std::shared_ptr<ActivityWorker> worker;
  std::promise<void> began;
  std::promise<void> release;
  std::atomic<int> runs{0};
  std::atomic<bool> forgotten{false};  // "beats" was told that nobody waits for it any more

  Activities() {
    const auto registry = std::make_shared<ActivityRegistry>();
    registry->add("once", [this](ActivityContext&, const Payloads&) {
      if (++runs == 1) {
        began.set_value();
        release.get_future().wait();
      }
      return Payloads{};
    });
    registry->add("beats", [this](ActivityContext& ctx, const Payloads&) {
      ctx.heartbeat(1);
      began.set_value();
      ctx.wait_cancelled(10s);
      forgotten = ctx.cancel_reasons().has(CancelReason::kNotFound);
      return Payloads{};
    });
    registry->add("beats_and_returns", [this](ActivityContext& ctx, const Payloads&) {
      ctx.heartbeat(1);
      began.set_value();
      release.get_future().wait();
      return Payloads{};
    });
    registry->add("beats_and_leaves", [this](ActivityContext& ctx, const Payloads&) -> Payloads {
      ctx.heartbeat(1);
      ctx.heartbeat(2);
      began.set_value();
      ctx.complete_later();
    });
    ActivityWorkerOptions options;
    options.namespace_ = "default";
    options.heartbeats.longest = 1ms;
    options.log = Logger{warnings};
    options.max_by_type = {{"once", 1}};
    options.metrics = no_metrics();
    worker = std::make_shared<ActivityWorker>(environment, registry, std::move(options));
  }
  ~Activities() {
    while (!answered().empty()) {
    }
    worker->abandon();
  }

  void accept(const std::string& token, std::chrono::nanoseconds start_to_close,
              const std::string& type = "once") const {
    auto task = std::make_unique<ActivityWorker::Task>();
    task->set_task_token(token);
    task->mutable_activity_type()->set_name(type);
    const auto seconds = std::chrono::floor<std::chrono::seconds>(start_to_close);
    task->mutable_start_to_close_timeout()->set_seconds(seconds.count());
    task->mutable_start_to_close_timeout()->set_nanos(
        static_cast<int>((start_to_close - seconds).count()));
    auto permits = worker->reserve_eager(1);
    worker->accept(std::move(task), std::move(permits.at(0)), false);
  }
  void start(const std::string& token, const std::string& type = "once") {
    accept(token, 24h, type);
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

TEST(ActivityWorker, TellsTheWorkflowThatItsResultWasRefused) {
  struct Refusal {
    int code;
    std::string message;
    std::string type;
  };
  for (const auto& [code, message, type] : std::vector<Refusal>{
           {grpc_code::kInvalidArgument, "payload codec: no key", "CodecError"},
           {grpc_code::kInternal, "string field contains invalid UTF-8", "InvalidText"},
           {grpc_code::kResourceExhausted, kTooMuch, "PayloadsTooLarge"}}) {
    SCOPED_TRACE(type);
    Activities activities;
    activities.start("token");
    activities.release.set_value();
    activities.worker->stop_threads(TimerQueue::Clock::now() + 10s);
    activities.transport->take()->fail(code, message);
    const auto instead = activities.transport->take();
    ASSERT_NE(instead, nullptr);
    EXPECT_EQ(instead->method, "RespondActivityTaskFailed");
    api::RespondActivityTaskFailedRequest request;
    ASSERT_TRUE(request.ParseFromString(instead->request));
    EXPECT_EQ(request.failure().application_failure_info().type(), type);
    instead->fail(code, message);
    EXPECT_EQ(activities.transport->take(), nullptr) << "it is said once";
  }
}

TEST(ActivityWorker, FailsTheAttemptWhoseHeartbeatIsRefused) {
  Activities activities;
  activities.start("token", "beats");
  const auto beat = activities.transport->take();
  ASSERT_NE(beat, nullptr);
  EXPECT_EQ(beat->method, "RecordActivityTaskHeartbeat");
  beat->fail(grpc_code::kResourceExhausted, kTooMuch);
  const auto failed = activities.transport->take();
  ASSERT_NE(failed, nullptr) << "it would be sent again and again";
  EXPECT_EQ(failed->method, "RespondActivityTaskFailed");
  api::RespondActivityTaskFailedRequest request;
  ASSERT_TRUE(request.ParseFromString(failed->request));
  EXPECT_EQ(request.task_token(), "token");
  EXPECT_EQ(request.failure().message(), kTooMuch);
  const auto& info = request.failure().application_failure_info();
  EXPECT_EQ(info.type(), "PayloadsTooLarge");
  EXPECT_TRUE(info.non_retryable());
  EXPECT_FALSE(request.has_last_heartbeat_details()) << "they are what was refused";
  activities.worker->stop_threads(TimerQueue::Clock::now() + 10s);
  EXPECT_TRUE(activities.forgotten);
  EXPECT_EQ(activities.worker->numbers().used, 1U) << "it has not been told yet";
  failed->answer(api::RespondActivityTaskFailedResponse{});
  EXPECT_EQ(activities.worker->numbers().used, 0U);
  EXPECT_EQ(activities.worker->numbers().processed, 1);
  EXPECT_EQ(activities.transport->take(), nullptr) << "an attempt is answered once";
}

// The activity returns while its refused heartbeat is about to fail the attempt.
TEST(ActivityWorker, AnswersAnAttemptOnceThatEndsWhileItsHeartbeatIsRefused) {
  Activities activities;
  activities.warnings->then = [&activities] {
    activities.release.set_value();
    activities.worker->stop_threads(TimerQueue::Clock::now() + 10s);
  };
  activities.start("token", "beats_and_returns");
  const auto beat = activities.transport->take();
  ASSERT_NE(beat, nullptr);
  beat->fail(grpc_code::kResourceExhausted, kTooMuch);
  const auto failed = activities.transport->take();
  ASSERT_NE(failed, nullptr);
  EXPECT_EQ(failed->method, "RespondActivityTaskFailed");
  EXPECT_EQ(activities.transport->take(), nullptr) << "nothing beside it";
  EXPECT_EQ(activities.worker->numbers().used, 1U);
  failed->answer(api::RespondActivityTaskFailedResponse{});
  EXPECT_EQ(activities.worker->numbers().used, 0U);
}

TEST(ActivityWorker, RepeatsAHeartbeatThatACodecRefusesAndSaysSoOnce) {
  Activities activities;
  activities.start("token", "beats");
  for (int i = 0; i < 2; ++i) {
    const auto beat = activities.transport->next();
    ASSERT_NE(beat, nullptr);
    ASSERT_EQ(beat->method, "RecordActivityTaskHeartbeat");
    beat->fail(grpc_code::kInvalidArgument, "payload codec: no key");
  }
  EXPECT_EQ(activities.warnings->count, 1);
  const auto beat = activities.transport->next();
  ASSERT_NE(beat, nullptr);
  ASSERT_EQ(beat->method, "RecordActivityTaskHeartbeat") << "its keys are back";
  beat->answer(api::RecordActivityTaskHeartbeatResponse{});
  activities.worker->cancel_running(CancelReason::kRequested);
  activities.worker->stop_threads(TimerQueue::Clock::now() + 10s);
  EXPECT_FALSE(activities.forgotten);
  EXPECT_EQ(activities.answered(), "RespondActivityTaskCompleted");
}

int beaten(const pollers::FakeTransport::Call& call) {
  api::RecordActivityTaskHeartbeatRequest request;
  EXPECT_TRUE(request.ParseFromString(call.request));
  return decode_argument<int>(request.details());
}

TEST(ActivityWorker, SendsTheNewestHeartbeatOfAnActivityThatIsLeftOpen) {
  Activities activities;
  activities.start("token", "beats_and_leaves");
  activities.worker->stop_threads(TimerQueue::Clock::now() + 10s);
  const auto first = activities.transport->take();
  ASSERT_NE(first, nullptr);
  ASSERT_EQ(first->method, "RecordActivityTaskHeartbeat");
  EXPECT_EQ(beaten(*first), 1);
  EXPECT_EQ(activities.transport->take(), nullptr) << "one at a time";
  first->answer(api::RecordActivityTaskHeartbeatResponse{});
  const auto last = activities.transport->take();
  ASSERT_NE(last, nullptr) << "the next attempt would read the first";
  ASSERT_EQ(last->method, "RecordActivityTaskHeartbeat");
  EXPECT_EQ(beaten(*last), 2);
  last->answer(api::RecordActivityTaskHeartbeatResponse{});
  EXPECT_EQ(activities.transport->take(), nullptr) << "somebody else answers it";
  EXPECT_EQ(activities.worker->numbers().used, 0U);
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
