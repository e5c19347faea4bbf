#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <tempora/profile.hpp>

namespace tempora {
namespace {

class ProfileTest : public ::testing::Test {
 protected:
  ~ProfileTest() override { std::filesystem::remove_all(directory); }

  std::string write(const std::string& name, const std::string& text) {
    std::filesystem::create_directories(directory);
    std::ofstream{directory / name} << text;
    return directory / name;
  }

  std::expected<ConnectionOptions, ClientError> load(bool strict = false) {
    ProfileSource source;
    source.strict = strict;
    source.environment = [this](const std::string& name) -> std::optional<std::string> {
      const auto found = variables.find(name);
      return found == variables.end() ? std::nullopt : std::optional{found->second};
    };
    source.environment_names = [this] {
      std::vector<std::string> names;
      for (const auto& [name, value] : variables) names.push_back(name);
      return names;
    };
    return load_connection_options(source);
  }

  std::map<std::string, std::string> variables;
  std::filesystem::path directory =
      std::filesystem::path{::testing::TempDir()} /
      ("profile_test_" + std::to_string(::getpid()));  // each test may have its process
};

TEST_F(ProfileTest, DefaultsToTheLocalServer) {
  const auto options = load();
  ASSERT_TRUE(options);
  EXPECT_EQ(options->address, "localhost:7233");
  EXPECT_EQ(options->namespace_, "default");
  EXPECT_FALSE(options->tls_enabled.has_value());
}

TEST_F(ProfileTest, EnvironmentWinsOverTheProfile) {
  variables["TEMPORAL_CONFIG_FILE"] = write("t.toml", R"(
[profile.default]
address = "file:1"
namespace = "from_file"
[profile.default.grpc_meta]
x-team = "file"
x-kept = "file"
)");
  variables["TEMPORAL_ADDRESS"] = "env:2";
  variables["TEMPORAL_GRPC_META_X_TEAM"] = "env";
  const auto options = load();
  ASSERT_TRUE(options) << options.error().text();
  EXPECT_EQ(options->address, "env:2");
  EXPECT_EQ(options->namespace_, "from_file");
  EXPECT_EQ(options->headers.at("x-team"), "env");
  EXPECT_EQ(options->headers.at("x-kept"), "file");
}

TEST_F(ProfileTest, FindsTheFileInTheUsersDirectory) {
  std::filesystem::create_directories(directory / ".config/temporalio");
  write(".config/temporalio/temporal.toml", "[profile.default]\naddress = \"home:1\"\n");
  variables["HOME"] = directory;
  EXPECT_EQ(load()->address, "home:1");
}

TEST_F(ProfileTest, AMissingNamedProfileIsAnErrorAMissingDefaultIsNot) {
  variables["TEMPORAL_CONFIG_FILE"] = write("t.toml", "[profile.other]\naddress = \"o:1\"\n");
  EXPECT_TRUE(load());
  variables["TEMPORAL_PROFILE"] = "missing";
  const auto options = load();
  ASSERT_FALSE(options);
  EXPECT_EQ(options.error().code, ErrorCode::kConfiguration);
  EXPECT_NE(options.error().message.find("profile.missing"), std::string::npos);
  EXPECT_NE(options.error().message.find("t.toml"), std::string::npos);
}

TEST_F(ProfileTest, StrictModeNamesTheUnknownKey) {
  variables["TEMPORAL_CONFIG_FILE"] =
      write("t.toml",
            "[profile.default]\naddress = \"a:1\"\n[profile.default.tls]\nsurver_name = \"x\"\n");
  EXPECT_TRUE(load(false));
  const auto options = load(true);
  ASSERT_FALSE(options);
  EXPECT_NE(options.error().message.find("tls.surver_name: unknown key"), std::string::npos);
}

TEST_F(ProfileTest, ReadsCertificatesFromTheFilesThatAreNamed) {
  variables["TEMPORAL_TLS_CLIENT_CERT_PATH"] = write("c.pem", "CERT");
  variables["TEMPORAL_TLS_CLIENT_KEY_DATA"] = "KEY";
  variables["TEMPORAL_TLS_SERVER_NAME"] = "t.example";
  const auto options = load();
  ASSERT_TRUE(options) << options.error().text();
  EXPECT_EQ(options->tls->client_cert_pem, "CERT");
  EXPECT_EQ(options->tls->client_key_pem, "KEY");
  EXPECT_EQ(options->tls->server_name, "t.example");
}

TEST_F(ProfileTest, RefusesBothPathAndDataAndNamesThem) {
  variables["TEMPORAL_TLS_CLIENT_KEY_PATH"] = write("k.pem", "KEY");
  variables["TEMPORAL_TLS_CLIENT_KEY_DATA"] = "KEY";
  const auto options = load();
  ASSERT_FALSE(options);
  EXPECT_NE(options.error().message.find("TEMPORAL_TLS_CLIENT_KEY_DATA"), std::string::npos);
}

TEST_F(ProfileTest, AnEmptyTlsTableSwitchesTlsOnAndDisabledOff) {
  variables["TEMPORAL_CONFIG_FILE"] = write("t.toml", "[profile.default.tls]\n");
  EXPECT_EQ(load()->tls_enabled, true);
  variables["TEMPORAL_TLS"] = "false";
  EXPECT_EQ(load()->tls_enabled, false);
  variables["TEMPORAL_TLS"] = "perhaps";
  EXPECT_EQ(load().error().message, "TEMPORAL_TLS: must be true or false");
}

// The same file serves the CLI, which asks a codec server.
TEST_F(ProfileTest, LeavesACodecToOtherTools) {
  variables["TEMPORAL_CONFIG_FILE"] = write("t.toml", R"(
[profile.default]
address = "file:1"
[profile.default.codec]
endpoint = "http://localhost:8888"
auth = "Bearer of news"
)");
  variables["TEMPORAL_CODEC_ENDPOINT"] = "http://localhost:8889";
  const auto options = load(true);
  ASSERT_TRUE(options) << options.error().text();
  EXPECT_EQ(options->address, "file:1");
  EXPECT_TRUE(options->codecs.empty());
}

TEST_F(ProfileTest, NeverShowsASecret) {
  variables["TEMPORAL_CONFIG_FILE"] =
      write("t.toml", "[profile.default]\napi_key = \"top-secret\nnamespace = 1\n");
  const auto options = load();
  ASSERT_FALSE(options);
  EXPECT_EQ(options.error().text().find("top-secret"), std::string::npos);
  EXPECT_NE(options.error().message.find("line 2"), std::string::npos);
}

}  // namespace
}  // namespace tempora
