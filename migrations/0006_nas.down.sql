DROP INDEX nas_redundancy_group;
-- Without RADIUS over TLS every NAS has a secret of its own, so such a NAS is not known any more.
DELETE FROM nas WHERE transport = 'radsec';
ALTER TABLE nas
  DROP CONSTRAINT nas_secret_ref_check,
  DROP CONSTRAINT nas_tls,
  DROP COLUMN source_addresses, DROP COLUMN next_secret_ref, DROP COLUMN rate, DROP COLUMN request_window,
  DROP COLUMN jitter_ms, DROP COLUMN redundancy_group, DROP COLUMN transport, DROP COLUMN tls_ca,
  DROP COLUMN tls_certificate, DROP COLUMN tls_key, DROP COLUMN tls_server_name,
  ADD CONSTRAINT nas_secret_ref_check CHECK (secret_ref ~ '^(env|file):.');
