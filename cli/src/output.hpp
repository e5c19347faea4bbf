// What the command line says and how it ends.
#pragma once

#include <addrflow/v1/lifecycle.pb.h>
#include <addrflow/v1/provision.pb.h>

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace addrflow::cli {

// Exit codes that scripts can trust. "Unknown" is never folded into success or failure.
enum class Exit : int {
  kDone = 0,  // it is so, and confirmed everywhere
  kRefused =
      1,  // refused or failed; nothing was changed, or what was changed is undone; audit: violated
  kUsage = 2,  // the command, its arguments or the configuration are wrong; nothing was sent
  kUnknown =
      3,  // no answer: it may have happened. Ask again with the same --key; audit: could not check
  kPending = 4,  // it is so in ledger and AAA; a NAS or NetBox has not confirmed yet and is pursued
};

struct Output {
  bool json = false;

  // One line on standard error, and with --json an object {"error": {code, message}} on standard
  // output.
  Exit fail(Exit exit, std::string_view code, std::string_view message) const;

  Exit result(const v1::LifecycleResult& result) const;
  Exit result(const v1::CompositionResult& result) const;
  Exit view(const v1::ServiceView& view) const;
  Exit done(const google::protobuf::Message& message) const;  // as JSON, or as aligned lines

  // Aligned "name  value" lines; with --json one object of strings, in which `lists` are arrays:
  // names that may be there many times, or not at all.
  Exit facts(const std::vector<std::pair<std::string, std::string>>& facts,
             std::initializer_list<std::string_view> lists = {}) const;
};

}  // namespace addrflow::cli
