#include "settings.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>

namespace addrflow::cli {
namespace {

Environment environment_of(std::map<std::string, std::string> values) {
  return [values = std::move(values)](const char* name) -> const char* {
    const auto found = values.find(name);
    return found == values.end() ? nullptr : found->second.c_str();
  };
}

class ConfigFile {
 public:
  explicit ConfigFile(const std::string& text)
      : path_(std::filesystem::temp_directory_path() /
              ("addrflow-settings-" + std::to_string(::getpid()) + ".toml")) {
    std::ofstream(path_) << text;
  }
  ~ConfigFile() { std::filesystem::remove(path_); }
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

TEST(Settings, DefaultsAreUsedWhereNothingIsSet) {
  const auto settings = load_settings("", environment_of({}));
  ASSERT_TRUE(settings) << settings.error();
  EXPECT_EQ(settings->ledger.pool_size, 20);
  EXPECT_EQ(settings->pace.answer_wait, milliseconds{3'000});
}

TEST(Settings, TheEnvironmentWinsOverTheFile) {
  const ConfigFile file("[pace]\nanswer_wait = \"7s\"\neffect_retry = \"1s\"\n");
  const auto settings =
      load_settings(file.path(), environment_of({{"ADDRFLOW_PACE_ANSWER_WAIT", "250ms"}}));
  ASSERT_TRUE(settings) << settings.error();
  EXPECT_EQ(settings->pace.answer_wait, milliseconds{250});
  EXPECT_EQ(settings->pace.effect_retry, milliseconds{1'000});
}

TEST(Settings, NamesThatOthersFixedAreRead) {
  const auto settings = load_settings(
      "", environment_of({{"NETBOX_API_URL", "http://n"}, {"RADIUS_SERVER", "127.0.0.1"}}));
  ASSERT_TRUE(settings) << settings.error();
  EXPECT_EQ(settings->netbox.url, "http://n");
  EXPECT_EQ(settings->radius.server, "127.0.0.1");
}

TEST(Settings, AnUnknownKeyIsRefusedWithFileLineAndName) {
  const ConfigFile file("[pace]\nanswer_wiat = \"7s\"\n");
  const auto settings = load_settings(file.path(), environment_of({}));
  ASSERT_FALSE(settings);
  EXPECT_NE(settings.error().find(":2: unknown key 'pace.answer_wiat'"), std::string::npos)
      << settings.error();
}

TEST(Settings, AWrongTypeIsRefusedWithTheKey) {
  const ConfigFile file("[pace]\nanswer_wait = 7\n");
  const auto settings = load_settings(file.path(), environment_of({}));
  ASSERT_FALSE(settings);
  EXPECT_NE(settings.error().find("pace.answer_wait"), std::string::npos);
}

TEST(Settings, AWrongVariableIsRefusedWithItsName) {
  const auto settings = load_settings("", environment_of({{"ADDRFLOW_LEDGER_POOL_SIZE", "many"}}));
  ASSERT_FALSE(settings);
  EXPECT_NE(settings.error().find("ADDRFLOW_LEDGER_POOL_SIZE"), std::string::npos);
}

TEST(Settings, ASessionTimeoutIsAWholeNumberOfSeconds) {
  EXPECT_FALSE(load_settings("", environment_of({{"ADDRFLOW_AAA_SESSION_TIMEOUT", "1500ms"}})));
  const auto week = load_settings("", environment_of({{"ADDRFLOW_AAA_SESSION_TIMEOUT", "7d"},
                                                      {"ADDRFLOW_LEDGER_LONGEST_LEASE", "1h"}}));
  ASSERT_TRUE(week) << week.error();
  EXPECT_EQ(week->aaa.session_timeout, std::chrono::hours{24 * 7});
  EXPECT_EQ(week->longest_lease(), std::chrono::hours{24 * 7}) << "what is sent is a lease too";
}

TEST(Settings, WhatCachedWorkflowsHoldIsLimitedOnlyWhereSomeAreCached) {
  const auto unset = load_settings("", environment_of({}));
  ASSERT_TRUE(unset) << unset.error();
  EXPECT_EQ(unset->worker.cached_workflows_mib, 0) << "no limit";
  const ConfigFile file("[worker]\ncached_workflows = 5000\ncached_workflows_mib = 512\n");
  const auto limited = load_settings(file.path(), environment_of({}));
  ASSERT_TRUE(limited) << limited.error();
  EXPECT_EQ(limited->worker.cached_workflows, 5'000);
  EXPECT_EQ(limited->worker.cached_workflows_mib, 512);
  const auto uncached =
      load_settings(file.path(), environment_of({{"ADDRFLOW_WORKER_CACHED_WORKFLOWS", "0"}}));
  ASSERT_FALSE(uncached);
  EXPECT_TRUE(uncached.error().starts_with("worker.cached_workflows_mib: ")) << uncached.error();
  EXPECT_FALSE(load_settings("", environment_of({{"ADDRFLOW_WORKER_CACHED_WORKFLOWS_MIB", "-1"}})));
}

TEST(Settings, AMissingFileIsAnError) {
  EXPECT_FALSE(load_settings("/nonexistent/addrflow.toml", environment_of({})));
}

TEST(Durations, ReadBackAsWritten) {
  for (const char* text : {"250ms", "3s", "5m", "2h", "1d", "730d", "36500d"}) {
    const auto parsed = parse_duration(text);
    ASSERT_TRUE(parsed) << text;
    EXPECT_EQ(format_duration(*parsed), text);
  }
}

TEST(Durations, GarbageAndOverflowAreRefused) {
  for (const char* text : {"", "3", "s", "-1s", "3 s", "99999999999999999999s", "36501d"}) {
    EXPECT_FALSE(parse_duration(text)) << text;
  }
}

}  // namespace
}  // namespace addrflow::cli
