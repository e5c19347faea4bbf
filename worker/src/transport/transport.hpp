// The wire below client and pollers, as an interface: gRPC in production, a script in tests, the
// testing service. One attempt of one unary call; retries live above (`RetryingCaller`).
#pragma once

#include <google/protobuf/message.h>

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tempora {

struct CallOptions {
  std::chrono::milliseconds deadline{10'000};                 // of this attempt
  std::vector<std::pair<std::string, std::string>> metadata;  // keys in lower case
};

// How an attempt ended. The codes are gRPC's.
struct CallStatus {
  int code = 0;
  std::string message;
  std::string details;  // a serialised google.rpc.Status, or empty

  bool ok() const { return code == 0; }
};

class PendingCall {
 public:
  virtual ~PendingCall() = default;
  // Asks the call to end; `done` still runs, mostly with CANCELLED. Harmless after the end.
  virtual void cancel() = 0;
};

// What the server takes.
struct SizeLimits {
  std::size_t payloads = std::size_t{2} << 20;  // one list of arguments, one result, one command
  std::size_t memo = std::size_t{2} << 20;      // all of it
};

class Transport {
 public:
  virtual ~Transport() = default;
  // Once the server has told. Handed down to whoever checks; returns what holds from now on.
  virtual SizeLimits learn(const SizeLimits& limits) { return limits; }
  // What holds now, whether or not the server has told.
  virtual SizeLimits known() const { return {}; }
  // Starts one attempt of `method` ("/package.Service/Method"). `request` is read before `start`
  // returns or must be kept until `done`, like `response`. `done` runs exactly once, on a thread of
  // the transport: it must not block.
  virtual std::shared_ptr<PendingCall> start(std::string_view method,
                                             const google::protobuf::Message& request,
                                             google::protobuf::Message* response,
                                             CallOptions options,
                                             std::function<void(CallStatus)> done) = 0;
};

}  // namespace tempora
