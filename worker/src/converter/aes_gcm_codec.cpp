#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include <array>
#include <stdexcept>
#include <tempora/codec.hpp>

namespace tempora {

namespace {

constexpr std::size_t kKeyBytes = 32;
constexpr std::size_t kNonceBytes = 12;
constexpr std::size_t kTagBytes = 16;
constexpr const char* kEncrypted = "binary/encrypted";
constexpr const char* kKeyId = "encryption-key-id";

struct FreeContext {
  void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
};
using Context = std::unique_ptr<EVP_CIPHER_CTX, FreeContext>;

unsigned char* bytes(std::string& text) { return reinterpret_cast<unsigned char*>(text.data()); }
const unsigned char* bytes(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

void must(int result, const char* what) {
  if (result != 1) throw std::runtime_error{std::string{"AES-GCM: "} + what + " failed"};
}

Context context() {
  Context made{EVP_CIPHER_CTX_new()};
  if (made == nullptr) throw std::bad_alloc{};
  return made;
}

// nonce ‖ ciphertext ‖ tag
std::string encrypt(const std::string& plain, const std::string& key) {
  std::string sealed(kNonceBytes + plain.size() + kTagBytes, '\0');
  must(RAND_bytes(bytes(sealed), kNonceBytes), "random");
  const Context cipher = context();
  must(EVP_EncryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, bytes(std::string_view{key}),
                          bytes(sealed)),
       "init");
  int written = 0;
  must(EVP_EncryptUpdate(cipher.get(), bytes(sealed) + kNonceBytes, &written,
                         bytes(std::string_view{plain}), static_cast<int>(plain.size())),
       "encryption");
  must(EVP_EncryptFinal_ex(cipher.get(), bytes(sealed) + kNonceBytes + written, &written),
       "encryption");
  must(EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_GET_TAG, kTagBytes,
                           bytes(sealed) + kNonceBytes + plain.size()),
       "tag");
  return sealed;
}

std::string decrypt(const std::string& sealed, const std::string& key) {
  if (sealed.size() < kNonceBytes + kTagBytes)
    throw PayloadError{"encrypted payload: is too short"};
  std::string plain(sealed.size() - kNonceBytes - kTagBytes, '\0');
  std::string tag = sealed.substr(sealed.size() - kTagBytes);
  const Context cipher = context();
  must(EVP_DecryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, bytes(std::string_view{key}),
                          bytes(std::string_view{sealed})),
       "init");
  int written = 0;
  must(EVP_DecryptUpdate(cipher.get(), bytes(plain), &written,
                         bytes(std::string_view{sealed}) + kNonceBytes,
                         static_cast<int>(plain.size())),
       "decryption");
  must(EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_SET_TAG, kTagBytes, tag.data()), "tag");
  std::array<unsigned char, kTagBytes> rest{};
  if (EVP_DecryptFinal_ex(cipher.get(), rest.data(), &written) != 1)
    throw PayloadError{"encrypted payload: has been changed or is of another key"};
  return plain;
}

}  // namespace

AesGcmCodec::AesGcmCodec(std::map<std::string, std::string> keys, std::string write_with)
    : keys_(std::move(keys)), write_with_(std::move(write_with)) {
  for (const auto& [id, key] : keys_) {
    if (key.size() != kKeyBytes)
      throw std::invalid_argument{"keys: '" + id + "' is not of 32 bytes"};
  }
  if (!keys_.contains(write_with_))
    throw std::invalid_argument{"write_with: there is no key '" + write_with_ + "'"};
}

AesGcmCodec::~AesGcmCodec() {
  for (auto& [id, key] : keys_) OPENSSL_cleanse(key.data(), key.size());
}

std::vector<Payload> AesGcmCodec::encode(std::vector<Payload> payloads) const {
  const std::string& key = keys_.at(write_with_);
  for (Payload& payload : payloads) {
    Payload sealed;
    (*sealed.mutable_metadata())["encoding"] = kEncrypted;
    (*sealed.mutable_metadata())[kKeyId] = write_with_;
    sealed.set_data(encrypt(payload.SerializeAsString(), key));
    payload = std::move(sealed);
  }
  return payloads;
}

std::vector<Payload> AesGcmCodec::decode(std::vector<Payload> payloads) const {
  for (Payload& payload : payloads) {
    if (detail::encoding_of(payload) != kEncrypted) continue;
    const auto id = payload.metadata().find(kKeyId);
    const auto key = id == payload.metadata().end() ? keys_.end() : keys_.find(id->second);
    if (key == keys_.end()) throw PayloadError{"encrypted payload: its key is not known here"};
    Payload opened;
    if (!opened.ParseFromString(decrypt(payload.data(), key->second)))
      throw PayloadError{"encrypted payload: holds no payload"};
    payload = std::move(opened);
  }
  return payloads;
}

}  // namespace tempora
