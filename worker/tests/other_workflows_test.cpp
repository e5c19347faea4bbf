// Signals to, and requests to cancel, workflows that are known by their id only.
#include <temporal/api/enums/v1/event_type.pb.h>

#include <peers.hpp>

#include "stage.hpp"

namespace tempora::behaviour {
namespace {

struct Listener {
  std::string heard;
  Task<std::string> run(Context& ctx) {
    co_await ctx.wait_until([this] { return !heard.empty(); });
    co_return heard;
  }
  void tell(Context&, std::string text, int number) { heard = text + std::to_string(number); }
};
const Definition<Listener> kListener{"Listener", run(&Listener::run),
                                     signal("tell", &Listener::tell)};

struct Speaker {
  Task<std::string> run(Context& ctx, std::string id, std::string how) {
    const ExternalWorkflow other = ctx.external(id);
    std::string text = "passed on";
    try {
      if (how == "signal") co_await other.signal("tell", std::string{"number "}, 7);
      if (how == "cancel") co_await other.cancel("enough");
    } catch (const ApplicationError& error) {
      text = error.type();
    }
    co_return text;
  }
};
const Definition<Speaker> kSpeaker{"Speaker", run(&Speaker::run)};

TEST(OtherWorkflows, AreSignalled) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kListener).runs(kSpeaker);
    stage.start_worker();
    const auto listener = stage.start(kListener);
    const auto speaker = stage.start(kSpeaker, listener.id(), std::string{"signal"});
    EXPECT_EQ(must(speaker.result<std::string>()), "passed on");
    EXPECT_EQ(must(listener.result<std::string>()), "number 7");
  });
}

TEST(OtherWorkflows, AreCancelled) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kListener).runs(kSpeaker);
    stage.start_worker();
    const auto listener = stage.start(kListener);
    const auto speaker = stage.start(kSpeaker, listener.id(), std::string{"cancel"});
    EXPECT_EQ(must(speaker.result<std::string>()), "passed on");
    const auto result = listener.result<std::string>();
    ASSERT_FALSE(result.has_value());
    EXPECT_EQ(result.error().code, ErrorCode::kWorkflowCanceled);
  });
}

TEST(OtherWorkflows, ThatAreNotThereAreAnErrorOfTheirOwn) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kSpeaker);
    stage.start_worker();
    for (const std::string how : {"signal", "cancel"}) {
      EXPECT_EQ(must(stage.start(kSpeaker, unique("nobody"), how).result<std::string>()),
                "ExternalWorkflowExecutionNotFound");
    }
  });
}

// Both ways while both are cancelled: the request goes out from a cancelled scope, the signal does
// not.
struct LastWord {
  Task<std::string> run(Context& ctx, std::string id) {
    co_await ctx.cancelled();
    std::string text;
    try {
      co_await ctx.external(id).signal("tell", std::string{"number "}, 8);
    } catch (const CanceledError&) {
      text = "no signal, ";
    }
    co_await ctx.external(id).cancel();
    co_return text + "but a request";
  }
};
const Definition<LastWord> kLastWord{"LastWord", run(&LastWord::run)};

TEST(OtherWorkflows, CanBeCancelledFromACancelledWorkflow) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kListener).runs(kLastWord);
    stage.start_worker();
    const auto listener = stage.start(kListener);
    const auto last = stage.start(kLastWord, listener.id());
    must(last.cancel());
    EXPECT_EQ(must(last.result<std::string>()), "no signal, but a request");
    EXPECT_EQ(listener.result<std::string>().error().code, ErrorCode::kWorkflowCanceled);
  });
}

}  // namespace
}  // namespace tempora::behaviour
