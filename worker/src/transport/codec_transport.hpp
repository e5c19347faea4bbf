// A transport that encodes the payloads of every request and decodes those of every answer.
#pragma once

#include <memory>
#include <tempora/codec.hpp>

#include "transport.hpp"

namespace tempora {

// `inner` itself if there is nothing to apply.
std::shared_ptr<Transport> with_codecs(std::shared_ptr<Transport> inner, CodecOptions options);

}  // namespace tempora
