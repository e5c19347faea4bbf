// A codec server: by it Temporal's web UI and CLI show and write payloads that the Temporal server
// cannot read. It speaks the protocol of Temporal's remote codecs: POST to …/encode and …/decode,
// payloads as JSON, the namespace in the header X-Namespace.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <tempora/codec.hpp>
#include <vector>

namespace tempora {

// Who asks a codec server for what.
struct CodecCaller {
  std::string namespace_;     // as the caller says; empty: it does not
  std::string authorization;  // the header of that name, for instance "Bearer …"
  bool decodes = true;        // or encodes
};

struct CodecServerOptions {
  std::string address = "127.0.0.1";  // of this machine; whoever reaches it reads everything
  std::uint16_t port = 0;             // 0: any that is free
  // Of web pages that may ask, for instance "http://localhost:8233"; "*" for all of them. A
  // request without an origin, as the CLI makes it, comes from no web page.
  std::vector<std::string> origins;
  // Null: everybody may. Called on the server's thread.
  std::function<bool(const CodecCaller&)> authorize;
  std::size_t max_body_bytes = std::size_t{16} * 1024 * 1024;
  std::size_t max_connections = 64;
  std::chrono::seconds timeout{30};  // for each request and each answer
};

// Serves from construction to destruction, on a thread of its own and without TLS: for other
// machines put a proxy before it.
class CodecServer {
 public:
  // Throws `std::invalid_argument` for options that make no sense and `std::system_error` if the
  // address and port cannot be had.
  explicit CodecServer(CodecOptions codecs, CodecServerOptions options = {});
  ~CodecServer();
  CodecServer(const CodecServer&) = delete;
  CodecServer& operator=(const CodecServer&) = delete;
  std::uint16_t port() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tempora
