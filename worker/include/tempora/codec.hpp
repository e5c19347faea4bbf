// Payload codecs: what happens to payloads between this process and the server. They are applied to
// everything that client and worker send and read – arguments, results, details, memos, summaries,
// failures – but not to search attributes, which the server must read, nor to headers, which
// proxies and other SDKs may have to.
#pragma once

#include <google/protobuf/message.h>

#include <map>
#include <memory>
#include <string>
#include <tempora/payload.hpp>
#include <vector>

namespace tempora {

// Safe to use from many threads. What is thrown by `encode` refuses the call; a payload that
// `decode` throws for stays as it is, so that whoever needs its value gets a `PayloadError`: a
// workflow task fails and is tried again, and goes on when the key is there.
class Codec {
 public:
  virtual ~Codec() = default;
  // As many payloads as were given.
  virtual std::vector<Payload> encode(std::vector<Payload> payloads) const = 0;
  // A payload that this codec did not make is given back as it is.
  virtual std::vector<Payload> decode(std::vector<Payload> payloads) const = 0;
};

struct CodecOptions {
  // The first is the outermost: encoding goes from the last to the first, decoding back.
  std::vector<std::shared_ptr<const Codec>> codecs;
  // Message and stack trace of failures are encoded, too; the server sees "Encoded failure".
  bool encode_failures = false;
  bool empty() const { return codecs.empty() && !encode_failures; }
};

// AES-256-GCM as in Temporal's samples: encoding "binary/encrypted", metadata "encryption-key-id",
// nonce ‖ ciphertext ‖ tag. New payloads are written with one key and read with any: to rotate, add
// the new key everywhere, then write with it, and remove the old one when no history holds it.
class AesGcmCodec final : public Codec {
 public:
  // `keys`: 32 bytes each, by id. Throws `std::invalid_argument` for a key of another size or if
  // `write_with` is none of them.
  AesGcmCodec(std::map<std::string, std::string> keys, std::string write_with);
  ~AesGcmCodec() override;
  AesGcmCodec(const AesGcmCodec&) = delete;
  AesGcmCodec& operator=(const AesGcmCodec&) = delete;
  std::vector<Payload> encode(std::vector<Payload> payloads) const override;
  std::vector<Payload> decode(std::vector<Payload> payloads) const override;

 private:
  std::map<std::string, std::string> keys_;
  std::string write_with_;
};

// Applies the codecs to all payloads of a message of Temporal's API, for instance a history that
// was exported by another tool. `encode_payloads` throws what a codec throws.
void encode_payloads(google::protobuf::Message& message, const CodecOptions& options);
void decode_payloads(google::protobuf::Message& message, const CodecOptions& options);

}  // namespace tempora
