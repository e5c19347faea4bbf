#include "addrflow/radius/packet.hpp"

#include <gtest/gtest.h>

#include <random>

namespace addrflow::radius {
namespace {

using Octets = std::vector<std::uint8_t>;

Octets from_hex(std::string_view hex) {
  Octets octets;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    octets.push_back(
        static_cast<std::uint8_t>(std::stoi(std::string{hex.substr(i, 2)}, nullptr, 16)));
  }
  return octets;
}

// Sent by radclient 3.2.1 with secret "testing123": a CoA-Request with User-Name, Acct-Session-Id,
// Event-Timestamp, and Message-Authenticator where it put it.
constexpr std::string_view kCoaOfRadclient =
    "2b3e0047c07f16daabfca04d0622d8d70b5b77370106737562312c063831613037066553f1001a0f"
    "00003a8c080936346b2f36346b50128922a906afe904bc7ef3390b386ffc9a";
constexpr std::string_view kDisconnectOfRadclient =
    "28f3002605051173a1f8aeb5414c032ab34110a50106737562312c063831613037066553f100";

TEST(Decode, TakesWhatRadclientSends) {
  const auto packet = decode(from_hex(kCoaOfRadclient));
  ASSERT_TRUE(packet);
  EXPECT_EQ(packet->code, Code::kCoaRequest);
  ASSERT_NE(packet->find(attribute::kUserName), nullptr);
  EXPECT_EQ(packet->find(attribute::kUserName)->value, "sub1");
  EXPECT_EQ(packet->find(attribute::kAcctSessionId)->value, "81a0");
  EXPECT_EQ(packet->integer(attribute::kEventTimestamp), 1700000000U);
  EXPECT_EQ(packet->find(8, 14988)->value, "64k/64k");
}

TEST(Signer, KnowsRadclientsRequestAsRight) {
  Signer signer;
  EXPECT_TRUE(signer.verify_request(from_hex(kCoaOfRadclient), "testing123"));
  EXPECT_FALSE(signer.verify_request(from_hex(kCoaOfRadclient), "testing124"));
  EXPECT_TRUE(signer.verify_request(from_hex(kDisconnectOfRadclient), "testing123"));
}

TEST(Signer, WritesWhatItWouldTake) {
  Signer signer;
  const std::vector<Attribute> attributes{{0, 1, "sub1"}, {14988, 8, "64k/64k"}};
  const auto octets = signer.encode_request(Code::kCoaRequest, 7, attributes, "s");
  ASSERT_TRUE(octets);
  EXPECT_TRUE(signer.verify_request(*octets, "s"));
  EXPECT_EQ((*octets)[20], attribute::kMessageAuthenticator) << "it goes first";
  const auto packet = decode(*octets);
  ASSERT_TRUE(packet);
  EXPECT_EQ(packet->identifier, 7);
  ASSERT_EQ(packet->attributes.size(), 3U);
  EXPECT_EQ(packet->attributes[1], attributes[0]);
  EXPECT_EQ(packet->attributes[2], attributes[1]);
}

TEST(Signer, RefusesWhatDoesNotFit) {
  Signer signer;
  const auto fits = [&](const Attribute& attribute) {
    return signer.encode_request(Code::kCoaRequest, 1, {&attribute, 1}, "s").has_value();
  };
  EXPECT_TRUE(fits({0, 1, std::string(253, 'x')}));
  EXPECT_FALSE(fits({0, 1, std::string(254, 'x')}));
  EXPECT_TRUE(fits({9, 1, std::string(247, 'x')}));
  EXPECT_FALSE(fits({9, 1, std::string(248, 'x')}));
  const std::vector<Attribute> many(20, {0, 1, std::string(253, 'x')});
  EXPECT_FALSE(signer.encode_request(Code::kCoaRequest, 1, many, "s"));
}

class Answers : public ::testing::Test {
 protected:
  Signer signer;
  Octets request = *signer.encode_request(Code::kCoaRequest, 9, {}, "s");
  Signer::Verdict verdict(const Octets& answer, bool demand = false) {
    return signer.verify_answer(answer, request, "s", demand);
  }
};

TEST_F(Answers, WithAndWithoutMessageAuthenticatorAreGood) {
  EXPECT_EQ(verdict(*signer.encode_answer(Code::kCoaAck, request, {}, "s", true)),
            Signer::Verdict::kGood);
  const auto plain = *signer.encode_answer(Code::kCoaAck, request, {}, "s", false);
  EXPECT_EQ(verdict(plain), Signer::Verdict::kGood);
  EXPECT_EQ(verdict(plain, true), Signer::Verdict::kNoMessageAuthenticator);
}

TEST_F(Answers, OfAnotherSecretAreForged) {
  EXPECT_EQ(verdict(*signer.encode_answer(Code::kCoaAck, request, {}, "t")),
            Signer::Verdict::kForged);
}

TEST_F(Answers, OfAnotherKindAreRefused) {
  EXPECT_EQ(verdict(*signer.encode_answer(Code::kDisconnectAck, request, {}, "s")),
            Signer::Verdict::kOtherKind);
  const auto other = *signer.encode_request(Code::kCoaRequest, 10, {}, "s");
  EXPECT_EQ(verdict(*signer.encode_answer(Code::kCoaAck, other, {}, "s")),
            Signer::Verdict::kOtherKind);
}

TEST_F(Answers, WithOneBitTurnedAreNeverGood) {
  const std::vector<Attribute> cause{{0, attribute::kErrorCause, integer_value(503)}};
  const auto good = *signer.encode_answer(Code::kCoaNak, request, cause, "s");
  ASSERT_EQ(verdict(good), Signer::Verdict::kGood);
  for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
    Octets bad = good;
    bad[bit / 8] ^= static_cast<std::uint8_t>(1U << bit % 8);
    EXPECT_NE(verdict(bad), Signer::Verdict::kGood) << "bit " << bit;
  }
}

TEST_F(Answers, PaddingAfterLengthIsIgnored) {
  auto answer = *signer.encode_answer(Code::kCoaAck, request, {}, "s");
  answer.resize(answer.size() + 5, 0xff);
  EXPECT_EQ(verdict(answer), Signer::Verdict::kGood);
}

TEST(Decode, RefusesBrokenLengths) {
  Octets packet(20, 0);
  packet[0] = 45;
  packet[3] = 20;
  EXPECT_TRUE(decode(packet));
  EXPECT_FALSE(decode(std::span{packet}.first(19)));
  packet[3] = 19;
  EXPECT_FALSE(decode(packet)) << "Length below a header";
  packet[3] = 21;
  EXPECT_FALSE(decode(packet)) << "Length beyond the datagram";
  packet.push_back(1);
  EXPECT_FALSE(decode(packet)) << "half an attribute";
  packet.push_back(1);
  packet[3] = 22;
  EXPECT_FALSE(decode(packet)) << "attribute length 1";
  packet[21] = 3;
  EXPECT_FALSE(decode(packet)) << "attribute beyond the packet";
  packet[21] = 2;
  EXPECT_TRUE(decode(packet)) << "an empty attribute is well-formed";
  Octets large(5000, 0);
  large[2] = 5000 >> 8;
  large[3] = 5000 & 0xff;
  EXPECT_FALSE(decode(large));
}

TEST(Decode, KeepsAnOddVendorAttributeWhole) {
  Octets packet(20, 0);
  packet[3] = 28;
  const Octets odd{26, 8, 0, 0, 0, 9, 1, 9};  // inner length beyond the attribute
  packet.insert(packet.end(), odd.begin(), odd.end());
  const auto decoded = decode(packet);
  ASSERT_TRUE(decoded);
  ASSERT_EQ(decoded->attributes.size(), 1U);
  EXPECT_EQ(decoded->attributes[0].type, attribute::kVendorSpecific);
}

TEST(Decode, SurvivesAnyOctets) {
  std::minstd_rand random{42};
  Signer signer;
  const auto request = *signer.encode_request(Code::kCoaRequest, 1, {}, "s");
  int taken = 0;
  for (int i = 0; i < 20'000; ++i) {
    Octets packet(random() % 80);
    for (auto& octet : packet) octet = static_cast<std::uint8_t>(random());
    if (packet.size() >= 20 && i % 2 == 0) {
      packet[2] = 0;
      packet[3] = static_cast<std::uint8_t>(packet.size());
      for (std::size_t at = 21; at < packet.size(); at += 1 + random() % 6) packet[at] %= 8;
    }
    const auto decoded = decode(packet);
    taken += decoded.has_value();
    ASSERT_NE(signer.verify_answer(packet, request, "s"), Signer::Verdict::kGood);
    if (!decoded) continue;
    std::size_t octets = kHeaderSize;
    for (const auto& attribute : decoded->attributes) octets += attribute.value.size() + 2;
    ASSERT_LE(octets, packet.size());
  }
  EXPECT_GT(taken, 0) << "the trial must reach the attributes";
}

// Inputs that once found, or would find, a hole in a decoder; `./dev fuzz radius` looks for more.
TEST(Decode, CorpusOfBrokenPacketsIsRefusedOrKeptWhole) {
  const auto packet = [](std::vector<std::uint8_t> attributes, int length_off = 0) {
    std::vector<std::uint8_t> octets(20);
    octets[0] = 44;
    octets[1] = 7;
    octets.insert(octets.end(), attributes.begin(), attributes.end());
    const auto length = static_cast<int>(octets.size()) + length_off;
    octets[2] = static_cast<std::uint8_t>(length >> 8);
    octets[3] = static_cast<std::uint8_t>(length);
    return octets;
  };
  Signer signer;
  const auto request = *signer.encode_request(Code::kCoaRequest, 7, {}, "s");
  const std::vector<std::vector<std::uint8_t>> broken{
      {},
      {44},
      packet({}, -1),              // Length below a header
      packet({}, 1),               // beyond the datagram
      packet({}, 4'096),           // beyond any packet
      packet({1}),                 // a type and nothing else
      packet({1, 0}),              // a length of 0 would never end
      packet({1, 1}),              // shorter than its own head
      packet({1, 3}),              // beyond the end
      packet({1, 255, 'a'}),       // far beyond
      packet({80, 3, 0}),          // Message-Authenticator that is none
      packet({1, 3, 'a', 80, 2}),  // and an empty one
  };
  for (const auto& octets : broken) {
    EXPECT_FALSE(decode(octets)) << octets.size();
    EXPECT_EQ(signer.verify_answer(octets, request, "s"), Signer::Verdict::kMalformed);
  }
  const std::vector<std::vector<std::uint8_t>> odd_vendors{packet({26, 2}),
                                                           packet({26, 6, 0, 0, 0, 9}),
                                                           packet({26, 7, 0, 0, 0, 9, 1}),
                                                           packet({26, 8, 0, 0, 0, 9, 1, 0}),
                                                           packet({26, 9, 0, 0, 0, 9, 1, 9, 'x'}),
                                                           packet({26, 9, 1, 0, 0, 9, 1, 3, 'x'})};
  for (const auto& octets : odd_vendors) {
    const auto taken = decode(octets);
    ASSERT_TRUE(taken);
    ASSERT_EQ(taken->attributes.size(), 1U);
    EXPECT_EQ(taken->attributes[0].vendor, 0U) << "kept whole";
    EXPECT_EQ(signer.verify_answer(octets, request, "s"), Signer::Verdict::kForged);
  }
}

TEST(SignerTest, StatusServerIsAnsweredByEachPortInItsWay) {
  Signer signer;
  const auto status = signer.encode_status(7, "s3cret");
  EXPECT_NE(status, signer.encode_status(7, "s3cret")) << "the authenticator is random";
  for (const Code code : {Code::kAccessAccept, Code::kAccountingResponse, Code::kCoaAck}) {
    const auto answer = signer.encode_answer(code, status, {}, "s3cret");
    EXPECT_EQ(signer.verify_answer(*answer, status, "s3cret"), Signer::Verdict::kGood);
    EXPECT_EQ(signer.verify_answer(*answer, status, "other"), Signer::Verdict::kForged);
  }
  const auto nak = signer.encode_answer(Code::kCoaNak, status, {}, "s3cret");
  EXPECT_EQ(signer.verify_answer(*nak, status, "s3cret"), Signer::Verdict::kOtherKind);
}

}  // namespace
}  // namespace addrflow::radius
