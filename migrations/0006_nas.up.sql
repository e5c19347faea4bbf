-- What a NAS needs beyond an address and a secret: limits of its own, RADIUS over TLS, a second secret while
-- one is changed, the addresses under which accounting shows it, and the devices that may stand in for it.
ALTER TABLE nas
  ADD COLUMN source_addresses inet[] NOT NULL DEFAULT '{}',
  ADD COLUMN next_secret_ref text NOT NULL DEFAULT '' CHECK (next_secret_ref ~ '^((env|file):.+)?$'),
  ADD COLUMN rate double precision NOT NULL DEFAULT 0 CHECK (rate >= 0),
  ADD COLUMN request_window integer NOT NULL DEFAULT 0 CHECK (request_window BETWEEN 0 AND 64),
  ADD COLUMN jitter_ms bigint NOT NULL DEFAULT 0 CHECK (jitter_ms BETWEEN 0 AND 60000),
  ADD COLUMN redundancy_group text NOT NULL DEFAULT '',
  ADD COLUMN transport text NOT NULL DEFAULT 'udp' CHECK (transport IN ('udp', 'radsec')),
  ADD COLUMN tls_ca text NOT NULL DEFAULT '',
  ADD COLUMN tls_certificate text NOT NULL DEFAULT '',
  ADD COLUMN tls_key text NOT NULL DEFAULT '',
  ADD COLUMN tls_server_name text NOT NULL DEFAULT '',
  DROP CONSTRAINT nas_secret_ref_check,
  ADD CONSTRAINT nas_secret_ref_check CHECK (transport = 'radsec' OR secret_ref ~ '^(env|file):.'),
  ADD CONSTRAINT nas_tls CHECK (transport = 'udp' OR (tls_ca <> '' AND tls_certificate <> '' AND tls_key <> ''));
CREATE INDEX nas_redundancy_group ON nas (tenant_id, redundancy_group) WHERE redundancy_group <> '';
