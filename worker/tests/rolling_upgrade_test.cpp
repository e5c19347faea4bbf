// Two builds of one deployment at once: who goes on where.
#include <tempora/deployment.hpp>

#include <algorithm>
#include <functional>
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
// The same, with a behavior of their own.
const Definition<Long> kStays{"Stays", run(&Long::run), signal("proceed", &Long::proceed),
                              versioning(VersioningBehavior::kPinned)};
const Definition<Long> kMoves{"Moves", run(&Long::run), signal("proceed", &Long::proceed),
                              versioning(VersioningBehavior::kAutoUpgrade)};

struct Build {
  Build(const std::string& deployment, const std::string& queue, std::string id,
        VersioningBehavior behavior)
      : stage{connect(), 1'000}, version{deployment, id} {
    stage.options.task_queue = queue;
    stage.options.versioning = WorkerVersioning{.version = version, .behavior = behavior};
    stage.runs(kLong).runs(kStays).runs(kMoves);
    stage.does(kBuild, [id](ActivityContext&, const Void&) { return id; });
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

// What runs answer that were begun on build one and ended after build two took over.
struct Upgraded {
  std::string by_default;  // of the worker
  std::string stays, moves;
  std::string stays_moved, moves_held;  // by their start, against the definition
  std::string late;                     // begun after the change, by its start on build one
  std::string taken_along;              // pinned, then moved by hand
  std::string let_go;                   // held by its start, and no longer
};

Upgraded upgraded(VersioningBehavior behavior) {
  const std::string deployment = unique("deployment");
  const std::string queue = unique("rolling");
  Build one{deployment, queue, "one", behavior};
  one.becomes_current();
  const VersioningOverride held{.version = one.version};
  const VersioningOverride moved{.behavior = VersioningBehavior::kAutoUpgrade};
  const auto start = [&](const auto& definition, std::optional<VersioningOverride> how) {
    StartOptions options = one.stage.start_options();
    options.versioning = std::move(how);
    return one.stage.start_with(definition, std::move(options));
  };
  const std::vector<WorkflowHandle> running{
      start(kLong, {}),    start(kStays, {}), start(kMoves, {}),  start(kStays, moved),
      start(kMoves, held), start(kStays, {}), start(kMoves, held)};
  for (const auto& handle : running)
    one.stage.wait_for_event(handle, 12 /* ActivityTaskCompleted */);
  Build two{deployment, queue, "two", behavior};
  two.becomes_current();
  EXPECT_EQ(must(two.stage.client().deployments().describe_version(two.version)).status,
            VersionStatus::kCurrent);
  const auto late = start(kMoves, held);
  must(running[5].set_versioning(VersioningOverride{.version = two.version}));
  must(running[6].set_versioning(std::nullopt));
  const auto ended = [](const WorkflowHandle& handle) {
    must(handle.signal("proceed"));
    return must(handle.result<std::string>());
  };
  Upgraded result{.by_default = ended(running[0]),
                  .stays = ended(running[1]),
                  .moves = ended(running[2]),
                  .stays_moved = ended(running[3]),
                  .moves_held = ended(running[4]),
                  .late = ended(late),
                  .taken_along = ended(running[5]),
                  .let_go = ended(running[6])};
  one.stage.replay_all();
  two.stage.replay_all();
  one.stage.worker().shutdown();
  two.stage.worker().shutdown();
  return result;
}

// Whatever the worker says of the other types.
void expect_own_behavior(const Upgraded& result) {
  EXPECT_EQ(result.stays, "one one");
  EXPECT_EQ(result.moves, "one two");
  EXPECT_EQ(result.stays_moved, "one two");
  EXPECT_EQ(result.moves_held, "one one");
  EXPECT_EQ(result.late, "one one");
  EXPECT_EQ(result.taken_along, "one two");
  EXPECT_EQ(result.let_go, "one two");
}

TEST(RollingUpgrade, APinnedRunEndsOnTheBuildOnWhichItBegan) {
  NEEDS_SERVER();
  const Upgraded result = upgraded(VersioningBehavior::kPinned);
  EXPECT_EQ(result.by_default, "one one");
  expect_own_behavior(result);
}

TEST(RollingUpgrade, AnAutoUpgradingRunGoesOnWithTheNewBuild) {
  NEEDS_SERVER();
  const Upgraded result = upgraded(VersioningBehavior::kAutoUpgrade);
  EXPECT_EQ(result.by_default, "one two");
  expect_own_behavior(result);
}

// What is asked for reaches the server soon, not at once, and there is no event to wait on.
bool soon(const std::function<bool()>& holds) {
  const auto until = std::chrono::steady_clock::now() + 60s;
  while (!holds()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(100ms);
  }
  return true;
}

TEST(RollingUpgrade, ARampBeginsEndsAndABuildWithPollersIsNotRemoved) {
  NEEDS_SERVER();
  const std::string deployment = unique("deployment");
  const std::string queue = unique("rolling");
  Build one{deployment, queue, "one", VersioningBehavior::kPinned};
  one.becomes_current();
  const Build two{deployment, queue, "two", VersioningBehavior::kPinned};
  const DeploymentClient deployments = two.stage.client().deployments();
  const auto ramps = [&](const std::string& build_id, float percentage) {
    const auto now = deployments.describe(deployment);
    return now && now->ramping_build_id == build_id && now->ramping_percentage == percentage &&
           now->current_build_id == "one";
  };
  // The server refuses it until it has seen the second build's polls.
  EXPECT_TRUE(soon([&] {
    return deployments.set_ramping(deployment, "two", 30, {.ignore_missing_task_queues = true})
        .has_value();
  }));
  EXPECT_TRUE(soon([&] { return ramps("two", 30); }));
  const auto is_kept = [&] {
    const auto removed = deployments.remove_version(two.version);
    EXPECT_TRUE(removed || removed.error().code == ErrorCode::kFailedPrecondition)
        << removed.error().message;
    return !removed;
  };
  EXPECT_TRUE(is_kept()) << "it ramps and has pollers";
  must(deployments.set_ramping(deployment, "", 0, {.ignore_missing_task_queues = true}));
  EXPECT_TRUE(soon([&] { return ramps("", 0); }));
  EXPECT_TRUE(is_kept()) << "it has pollers";
  const auto too_much = deployments.set_ramping(deployment, "two", 101);
  ASSERT_FALSE(too_much) << "more than all";
  EXPECT_EQ(too_much.error().code, ErrorCode::kInvalidArgument);
}

// Builds that no worker has polled with, so that nothing but the routing holds them.
TEST(RollingUpgrade, ADeploymentIsListedChangedOnlyAsItWasSeenAndRemoved) {
  NEEDS_SERVER();
  const DeploymentClient deployments = connect().deployments();
  const std::string name = unique("deployment");
  must(deployments.set_current(name, "one", {.allow_no_pollers = true}));
  const DeploymentDescription seen = must(deployments.describe(name));
  EXPECT_EQ(seen.current_build_id, "one");
  const RoutingOptions as_seen{.conflict_token = seen.conflict_token, .allow_no_pollers = true};
  must(deployments.set_current(name, "two", as_seen));
  const auto overtaken = deployments.set_current(name, "one", as_seen);
  ASSERT_FALSE(overtaken);
  EXPECT_EQ(overtaken.error().code, ErrorCode::kFailedPrecondition) << overtaken.error().text();
  EXPECT_EQ(must(deployments.describe(name)).current_build_id, "two");
  const auto is_listed = [&] { return std::ranges::count(must(deployments.list()), name) == 1; };
  EXPECT_TRUE(soon(is_listed));

  const auto kept = deployments.remove(name);
  ASSERT_FALSE(kept) << "it has versions";
  EXPECT_EQ(kept.error().code, ErrorCode::kFailedPrecondition) << kept.error().text();
  must(deployments.set_current(name, "", {.ignore_missing_task_queues = true}));
  for (const std::string& build : {std::string{"one"}, std::string{"two"}}) {
    EXPECT_TRUE(soon([&] { return deployments.remove_version({name, build}, true).has_value(); }));
  }
  EXPECT_TRUE(soon([&] { return deployments.remove(name).has_value(); }));
  EXPECT_TRUE(soon([&] { return !is_listed(); }));
  const auto gone = deployments.describe(name);
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().code, ErrorCode::kNotFound) << gone.error().text();
}

TEST(RollingUpgrade, AWorkerWithoutADefaultTakesTypesThatSayTheirOwn) {
  NEEDS_SERVER();
  const Client client = connect();
  WorkerOptions options;
  options.task_queue = "nobody";
  options.versioning = WorkerVersioning{.version = {"deployment", "build"},
                                        .behavior = VersioningBehavior::kUnspecified};
  Worker worker{client, options};
  worker.add(kStays);
  EXPECT_THROW(worker.add(kLong), std::invalid_argument);
  EXPECT_THROW(worker.add_fallback(kLong), std::invalid_argument);
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
