// libFuzzer on what comes from the network: `./dev fuzz radius`. Whatever the octets, the decoder
// neither reads past them nor believes what was not signed; what it takes it can write again.
#include <cstdlib>

#include "addrflow/radius/packet.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace addrflow::radius;
  static Signer signer;
  static const auto request = *signer.encode_request(Code::kCoaRequest, 7, {}, "s");
  const std::span<const std::uint8_t> octets{data, size};
  const auto packet = decode(octets);
  const auto verdict = signer.verify_answer(octets, request, "s");
  // The quick check of the lengths and the decoder are of one mind.
  if ((verdict == Signer::Verdict::kMalformed) == packet.has_value()) std::abort();
  if (verdict == Signer::Verdict::kGood || signer.verify_request(octets, "another secret")) {
    std::abort();  // 128 bits were guessed
  }
  if (packet) {
    const auto again =
        signer.encode_request(packet->code, packet->identifier, packet->attributes, "s", false);
    if (again && !decode(*again)) std::abort();
  }
  return 0;
}
