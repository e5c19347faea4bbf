// What is known of the network: the NAS (ledger) and the sessions (accounting). Times are UTC.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace addrflow::ports {

struct NasRecord {
  std::int64_t id = 0;
  std::string tenant;
  std::string name;
  std::string nas_ip;    // NAS-IP-Address, as accounting shows it
  std::string coa_host;  // where CoA goes; usually nas_ip
  std::uint16_t coa_port = 3799;
  std::string dialect = "rfc5176";
  std::string secret_ref;      // "env:NAME" or "file:/path"; never the secret itself
  std::string nas_identifier;  // empty: not sent
  std::chrono::seconds interim_interval{300};

  // Other addresses under which accounting may show the same device.
  std::vector<std::string> source_addresses;
  // The secret that follows: answers may be keyed by either, and where the present one meets
  // silence the next one signs. Empty: no rotation is under way.
  std::string next_secret_ref;
  // Limits for this device; 0: those of the configuration.
  double rate = 0;                      // requests a second
  std::size_t window = 0;               // outstanding requests, at most 64
  std::chrono::milliseconds jitter{0};  // the first of a burst waits for a random part of this
  // Devices of one group may take over each other's sessions: when one is silent, the next is
  // asked. Empty: it stands alone.
  std::string redundancy_group;
  // "udp", or "radsec": RADIUS over TLS (RFC 6614), whose files are named here, never held.
  std::string transport = "udp";
  std::string tls_ca;           // file with the authority that signed the NAS's certificate
  std::string tls_certificate;  // file with our certificate (and chain)
  std::string tls_key;          // file with its key
  std::string tls_server_name;  // the name in the NAS's certificate; empty: coa_host
};

class NasDirectory {
 public:
  virtual ~NasDirectory() = default;
  // By NAS-IP-Address or a source address. Falls back to the default NAS of RADIUS_SERVER /
  // RADIUS_SECRET when the ledger has no row (R21).
  virtual std::optional<NasRecord> find(const std::string& tenant, const std::string& nas_ip) = 0;
  // The other devices of its redundancy group, in the order of their names.
  virtual std::vector<NasRecord> others_in_group(const NasRecord& nas) {
    static_cast<void>(nas);
    return {};
  }
};

struct Session {
  std::string acct_session_id;
  std::string acct_unique_id;
  std::string username;
  std::string nas_ip;
  std::string framed_ip;
  std::string delegated_prefix;  // with its length
  std::string framed_prefix;     // of the link, with its length
  std::string nas_port_id;
  std::string calling_station_id;
  std::chrono::system_clock::time_point started;
  std::chrono::system_clock::time_point updated;
  // For how long accounting has not heard of it, by the clock of its own database, and how long it
  // was between the last two times; 0: not known.
  std::chrono::seconds silent{0};
  std::chrono::seconds interim{0};
};

// What accounting says of a set of usernames and an address, since a moment (the release gate's
// evidence).
struct SessionEvidence {
  std::vector<Session> open;   // still open, by any of the usernames or by the address
  bool stopped_since = false;  // an accounting Stop of such a session after `since`
  std::string stop;            // the newest of them, for a person
  std::optional<std::chrono::system_clock::time_point>
      nas_last_heard;  // newest accounting row of that NAS
};

// Somebody who waits for the end of a session.
struct Waiting {
  std::string username;
  std::chrono::system_clock::time_point since;
};

class SessionDirectory {
 public:
  virtual ~SessionDirectory() = default;
  // Newest first. Throws when the database cannot be reached. `address` may be a delegated prefix.
  virtual std::vector<Session> open_sessions(const std::vector<std::string>& usernames) = 0;
  // The same without regard to when accounting last heard of them: a NAS that sends no
  // Interim-Updates is not heard of from Start to Stop. Newest first.
  virtual std::vector<Session> open_rows(const std::vector<std::string>& usernames) {
    return evidence(usernames, "", "", std::chrono::system_clock::now()).open;
  }
  virtual SessionEvidence evidence(const std::vector<std::string>& usernames,
                                   const std::string& address, const std::string& nas_ip,
                                   std::chrono::system_clock::time_point since) = 0;
  // For whom there is an accounting Stop since then: places in the list. One question, however many
  // wait; the evidence has to be looked at all the same.
  virtual std::vector<std::size_t> ended(const std::vector<Waiting>& waiting) {
    static_cast<void>(waiting);
    return {};
  }
};

// A session of the past, as accounting wrote it down.
struct SessionRecord {
  std::string acct_session_id;
  std::string username;
  std::string nas_ip;
  std::string calling_station_id;
  std::string started;  // RFC 3339
  std::string updated;
  std::string stopped;  // empty: no Stop was seen
  std::string terminate_cause;
};

class AccountingHistory {
 public:
  virtual ~AccountingHistory() = default;
  // Sessions that had exactly this address or delegated prefix, and overlap [from, to] (RFC 3339;
  // empty: open on that side), oldest first, at most `most`. A session without a Stop lasts to its
  // last update. Throws when the database cannot be reached.
  virtual std::vector<SessionRecord> history(const std::string& space, const std::string& from,
                                             const std::string& to, int most) = 0;
};

}  // namespace addrflow::ports
