#include "codec_endpoint.hpp"

#include <google/protobuf/util/json_util.h>

#include <algorithm>

namespace tempora::detail {

namespace {

namespace json = google::protobuf::util;

CodecAnswer refusal(unsigned status, std::string why) {
  return {.status = status, .body = std::move(why)};
}

}  // namespace

CodecEndpoint::CodecEndpoint(CodecOptions codecs, std::vector<std::string> origins,
                             std::function<bool(const CodecCaller&)> authorize)
    : codecs_(std::move(codecs)), origins_(std::move(origins)), authorize_(std::move(authorize)) {}

CodecEndpoint::Origin CodecEndpoint::judge(std::string_view origin) const {
  if (origin.empty()) return Origin::kNone;
  if (std::ranges::find(origins_, origin) != origins_.end()) return Origin::kListed;
  return std::ranges::find(origins_, "*") != origins_.end() ? Origin::kAny : Origin::kStranger;
}

CodecAnswer CodecEndpoint::answer(const CodecRequest& request) const {
  const bool decodes = request.path.ends_with("/decode");
  if (!decodes && !request.path.ends_with("/encode"))
    return refusal(404, "there are /encode and /decode");
  // Refused, not only left without headers: a page could send what needs no question first, and a
  // name that leads here today and elsewhere tomorrow makes the page's own origin out of us.
  const Origin origin = judge(request.origin);
  if (origin == Origin::kStranger) return refusal(403, "this origin may not ask");

  CodecAnswer answer;
  if (request.method == "OPTIONS") {
    answer.status = 204;
    answer.headers = {{"Access-Control-Allow-Methods", "POST, OPTIONS"},
                      {"Access-Control-Allow-Headers", "Authorization, Content-Type, X-Namespace"},
                      {"Access-Control-Allow-Private-Network", "true"},
                      {"Access-Control-Max-Age", "600"}};
  } else if (request.method == "POST") {
    answer = convert(request, decodes);
  } else {
    answer = refusal(405, "only POST and OPTIONS");
    answer.headers = {{"Allow", "POST, OPTIONS"}};
  }
  if (origin == Origin::kNone) return answer;
  // Credentials go with origins that were named, never with "*".
  const bool listed = origin == Origin::kListed;
  answer.headers.emplace_back("Access-Control-Allow-Origin",
                              listed ? std::string{request.origin} : "*");
  if (listed) {
    answer.headers.emplace_back("Access-Control-Allow-Credentials", "true");
    answer.headers.emplace_back("Vary", "Origin");
  }
  return answer;
}

CodecAnswer CodecEndpoint::convert(const CodecRequest& request, bool decodes) const {
  if (authorize_ && !authorize_({.namespace_ = std::string{request.namespace_},
                                 .authorization = std::string{request.authorization},
                                 .decodes = decodes})) {
    return refusal(403, "not allowed");
  }
  Payloads payloads;
  json::JsonParseOptions lenient;
  lenient.ignore_unknown_fields = true;
  if (const auto status = json::JsonStringToMessage(std::string{request.body}, &payloads, lenient);
      !status.ok()) {
    return refusal(400, "the body is no payloads in JSON: " + status.ToString());
  }
  try {
    if (decodes) {
      decode_payloads(payloads, codecs_);
    } else {
      encode_payloads(payloads, codecs_);
    }
  } catch (const std::exception& error) {
    return refusal(500, error.what());
  }
  CodecAnswer answer{.headers = {{"Content-Type", "application/json"}}};
  if (const auto status = json::MessageToJsonString(payloads, &answer.body); !status.ok())
    return refusal(500, status.ToString());
  return answer;
}

}  // namespace tempora::detail
