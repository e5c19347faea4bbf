// Two builds of one deployment at once: who goes on where.
#include <tempora/deployment.hpp>

#include <peers.hpp>
#include <thread>

#include "stage.hpp"

namespace tempora::behaviour {
namespace {

// Answers with its build, before and after a signal.
const ActivityType<Void, std::string> kBuild{"build", {.start_to_close = 10s}};

struct Long {
  bool go = false;
  Task<std::string> run(Context& ctx) {
    const std::string before = co_await ctx.execute(kBuild);
    co_await ctx.wait_until([this] { return go; });
    const std::string after = co_await ctx.execute(kBuild);
    co_return before + " " + after;
  }
  Task<void> proceed(Context&) {
    go = true;
    co_return;
  }
};
const Definition<Long> kLong{"Long", run(&Long::run), signal("proceed", &Long::proceed)};

struct Build {
  Build(const std::string& deployment, const std::string& queue, std::string id,
        VersioningBehavior behavior)
      : stage{connect(), 1'000}, version{deployment, id} {
    stage.options.task_queue = queue;
    stage.options.versioning = WorkerVersioning{.version = version, .behavior = behavior};
    stage.runs(kLong).does(kBuild, [id](ActivityContext&, const Void&) { return id; });
    stage.start_worker();
  }
  // A deployment and its versions are made by the first polls: there is no event to wait on. The
  // queue learns of it some time later, for which `settled` is no measure: the server can leave it
  // unset for minutes. So new runs are made until one goes to this build all the way.
  void becomes_current() {
    const auto until = std::chrono::steady_clock::now() + 60s;
    while (!is_current() || probe() != version.build_id + " " + version.build_id) {
      if (std::chrono::steady_clock::now() > until) throw std::runtime_error{"does not take over"};
      std::this_thread::sleep_for(100ms);
    }
  }
  bool is_current() const {
    const auto deployments = stage.client().deployments();
    if (const auto now = deployments.describe(version.deployment);
        now && now->current_build_id == version.build_id) {
      return true;
    }
    (void)deployments.set_current(version.deployment, version.build_id,
                                  {.ignore_missing_task_queues = true});
    return false;
  }
  std::string probe() {
    const auto fresh = stage.start(kLong);
    must(fresh.signal("proceed"));
    return must(fresh.result<std::string>());
  }
  Stage stage;
  DeploymentVersion version;
};

std::string upgraded(VersioningBehavior behavior) {
  const std::string deployment = unique("deployment");
  const std::string queue = unique("rolling");
  Build one{deployment, queue, "one", behavior};
  one.becomes_current();
  const auto running = one.stage.start(kLong);
  one.stage.wait_for_event(running, 12 /* ActivityTaskCompleted */);
  Build two{deployment, queue, "two", behavior};
  two.becomes_current();
  EXPECT_EQ(must(two.stage.client().deployments().describe_version(two.version)).status,
            VersionStatus::kCurrent);
  must(running.signal("proceed"));
  std::string result = must(running.result<std::string>());
  one.stage.replay_all();
  two.stage.replay_all();
  one.stage.worker().shutdown();
  two.stage.worker().shutdown();
  return result;
}

TEST(RollingUpgrade, APinnedRunEndsOnTheBuildOnWhichItBegan) {
  NEEDS_SERVER();
  EXPECT_EQ(upgraded(VersioningBehavior::kPinned), "one one");
}

TEST(RollingUpgrade, AnAutoUpgradingRunGoesOnWithTheNewBuild) {
  NEEDS_SERVER();
  EXPECT_EQ(upgraded(VersioningBehavior::kAutoUpgrade), "one two");
}

TEST(RollingUpgrade, AVersionInHalfIsRefused) {
  NEEDS_SERVER();
  const Client client = connect();
  WorkerOptions options;
  options.task_queue = "nobody";
  options.versioning = WorkerVersioning{.version = {"deployment", ""}};
  EXPECT_THROW((Worker{client, options}), std::invalid_argument);
}

}  // namespace
}  // namespace tempora::behaviour
