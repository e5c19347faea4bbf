// A transport that encodes the payloads of every request and decodes those of every answer.
#pragma once

#include <memory>
#include <tempora/codec.hpp>

#include "transport.hpp"

namespace tempora {

// `inner` itself if there is nothing to apply.
std::shared_ptr<Transport> with_codecs(std::shared_ptr<Transport> inner, CodecOptions options);

// The request never left: a codec threw.
bool is_refused_by_codec(const CallStatus& status);

}  // namespace tempora
