#include "addrflow/radius/secret.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

namespace addrflow::radius {
namespace {

class SecretStoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "secretXXXXXX";
    const int fd = ::mkstemp(pattern.data());
    ASSERT_GE(fd, 0);
    ::close(fd);
    path = pattern;
  }
  void TearDown() override { std::filesystem::remove(path); }
  void write(const std::string& text) { std::ofstream{path} << text; }

  std::string path;
  SecretStore store;
};

TEST_F(SecretStoreTest, ReadsFileWithoutItsLineEnd) {
  write("s3cret\n");
  EXPECT_EQ(store.read("file:" + path), "s3cret");
}

TEST_F(SecretStoreTest, ReadsFileAgainWhenItChanged) {
  write("old");
  EXPECT_EQ(store.read("file:" + path), "old");
  write("newer");
  EXPECT_EQ(store.read("file:" + path), "newer");
}

TEST_F(SecretStoreTest, ReadsEnvironment) {
  ::setenv("ADDRFLOW_UNIT_SECRET", "abc", 1);
  EXPECT_EQ(store.read("env:ADDRFLOW_UNIT_SECRET"), "abc");
  ::unsetenv("ADDRFLOW_UNIT_SECRET");
  EXPECT_FALSE(store.read("env:ADDRFLOW_UNIT_SECRET"));
}

TEST_F(SecretStoreTest, RefusesEmptyAndMissing) {
  write("\n");
  EXPECT_FALSE(store.read("file:" + path));
  EXPECT_FALSE(store.read("file:" + path + ".gone"));
}

TEST_F(SecretStoreTest, DoesNotRepeatSecretWrittenInPlaceOfReference) {
  const auto read = store.read("hunter2hunter2");
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().find("hunter2"), std::string::npos);
}

}  // namespace
}  // namespace addrflow::radius
