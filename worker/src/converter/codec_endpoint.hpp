// What a codec server answers, apart from how the request came.
#pragma once

#include <string>
#include <string_view>
#include <tempora/codec_server.hpp>
#include <utility>
#include <vector>

namespace tempora::detail {

struct CodecRequest {
  std::string_view method;
  std::string_view path;  // without a query
  std::string_view origin{};
  std::string_view namespace_{};
  std::string_view authorization{};
  std::string_view body{};
};

struct CodecAnswer {
  unsigned status = 200;
  std::string body{};  // JSON if the status is 200, else text
  std::vector<std::pair<std::string, std::string>> headers{};
};

class CodecEndpoint {
 public:
  CodecEndpoint(CodecOptions codecs, std::vector<std::string> origins,
                std::function<bool(const CodecCaller&)> authorize);
  CodecAnswer answer(const CodecRequest& request) const;

 private:
  enum class Origin { kNone, kListed, kAny, kStranger };
  Origin judge(std::string_view origin) const;
  CodecAnswer convert(const CodecRequest& request, bool decodes) const;

  const CodecOptions codecs_;
  const std::vector<std::string> origins_;
  const std::function<bool(const CodecCaller&)> authorize_;
};

}  // namespace tempora::detail
