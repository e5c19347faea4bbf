-- NetBox in depth: effects that the catch-up claims, one writer a prefix pool, pools that start once they are imported.

ALTER TABLE effects ADD COLUMN leased_until timestamptz NOT NULL DEFAULT '-infinity';  -- claimed by a catch-up
CREATE INDEX effects_netbox_due ON effects (not_before)
  WHERE system = 'netbox' AND status IN ('planned', 'sent', 'unknown', 'refused');
CREATE INDEX effects_object ON effects (service_id, object, id) WHERE system = 'netbox';

-- What NetBox held when the pool was imported is blocked. Null: not imported yet.
ALTER TABLE ip_pools ADD COLUMN netbox_imported_at timestamptz;
-- Pools that are there already were started by somebody who meant it.
UPDATE ip_pools SET netbox_imported_at = now();

-- A delegated prefix that NetBox calls taken is blocked by the allocation that met it.
GRANT INSERT ON pool_exclusions TO addrflow_app;

CREATE TABLE netbox_writers (
  pool text PRIMARY KEY,
  holder text NOT NULL,
  until timestamptz NOT NULL
);

CREATE TABLE netbox_health (
  worker text PRIMARY KEY,
  breaker text NOT NULL CHECK (breaker IN ('closed', 'open', 'half-open')),
  failures integer NOT NULL,
  detail text NOT NULL DEFAULT '',
  at timestamptz NOT NULL DEFAULT clock_timestamp()
);
