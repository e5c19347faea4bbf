// Where the Temporal service is and how to speak to it.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tempora/codec.hpp>
#include <tempora/metrics.hpp>
#include <vector>

namespace tempora {

class ClientInterceptor;  // interceptor.hpp

// PEM texts, not paths. Empty CA: the system's.
struct TlsOptions {
  std::string server_ca_pem;
  std::string client_cert_pem;  // with `client_key_pem`: mutual TLS
  std::string client_key_pem;
  std::string server_name;  // what the certificate is checked against; empty: the host
  bool disable_host_verification = false;  // for tests only
};

struct ConnectionOptions {
  std::string address = "localhost:7233";
  std::string namespace_ = "default";
  std::string identity;  // shown by Temporal's tools; empty: "<pid>@<host>"

  // Sent as `Authorization: Bearer …`. The function is asked at each call, so that a key can be
  // rotated; it wins.
  std::string api_key;
  std::function<std::string()> api_key_provider;
  // Unset: TLS is on if `tls` or an API key is given.
  std::optional<bool> tls_enabled;
  std::optional<TlsOptions> tls;
  std::map<std::string, std::string>
      headers;  // of every call; an `authorization` here wins over the key

  // What `connect` waits for the first answer. The channel reconnects by itself later.
  std::chrono::milliseconds connect_timeout{5'000};
  // Asks for the namespace too, so that a wrong one is an error now and not later.
  bool check_namespace = false;

  std::chrono::milliseconds call_deadline{10'000};  // of one attempt
  std::chrono::milliseconds call_budget{30'000};    // of a call with its retries
  std::chrono::milliseconds keep_alive_time{30'000};
  std::chrono::milliseconds keep_alive_timeout{15'000};
  std::size_t max_message_bytes = std::size_t{128}
                                  << 20;  // histories are long; requests the server limits to 4 MiB
  // A larger request is refused here, in clear words; by default the server would refuse it too.
  std::size_t max_request_bytes = std::size_t{4} << 20;
  // A payload list above this is refused here, named, before the server would refuse the call or,
  // worse, end the workflow. 0: what the namespace says once it was asked (`check_namespace`, a
  // worker's start), until then 2 MiB.
  std::size_t max_payload_bytes = 0;
  CodecOptions codecs{};  // for all payloads of this client and of the workers over it
  std::vector<std::shared_ptr<ClientInterceptor>> interceptors{};  // the first is the outermost

  // Gets requests and their latencies, and what the workers over this client measure. None: nothing
  // is measured. See prometheus.hpp.
  std::shared_ptr<Metrics> metrics{};

  int channels = 1;  // TCP connections; more only for very many polls
};

}  // namespace tempora
