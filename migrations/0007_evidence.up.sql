-- Retention of holdings, the daily look at scale, and a guard against a ledger that was restored to an earlier state.

-- A holding is closed, never changed otherwise. What ended before the moment that the owner names may be pruned
-- (`addrflow holdings prune`); the app role has no right to delete at all.
CREATE OR REPLACE FUNCTION holdings_are_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  before timestamptz := nullif(current_setting('addrflow.prune_before', true), '');
BEGIN
  IF TG_OP = 'DELETE' THEN
    IF before IS NULL OR upper_inf(OLD.period) OR upper(OLD.period) >= before THEN
      RAISE EXCEPTION 'holdings are never deleted';
    END IF;
    RETURN OLD;
  END IF;
  IF NOT upper_inf(OLD.period) OR (NEW.tenant_id, NEW.service_id, NEW.space, NEW.ports,
      NEW.routing_domain_id, lower(NEW.period)) IS DISTINCT FROM (OLD.tenant_id, OLD.service_id,
      OLD.space, OLD.ports, OLD.routing_domain_id, lower(OLD.period)) THEN
    RAISE EXCEPTION 'holdings are only ever closed';
  END IF;
  RETURN NEW;
END
$$;
CREATE INDEX holdings_closed ON holdings (upper(period), id) WHERE NOT upper_inf(period);
CREATE INDEX holdings_releasing ON holdings (id) WHERE releasing AND upper_inf(period);

-- The daily look: what it counts and deletes, without reading what is well.
CREATE INDEX ip_reservations_revoked ON ip_reservations (family, lifecycle_revoked_at)
  WHERE lifecycle_state = 'revoked';
CREATE INDEX ip_reservations_allocated ON ip_reservations (family, lifecycle_allocated_at)
  WHERE lifecycle_state = 'allocated';
CREATE INDEX ip_reservations_revoking ON ip_reservations (family, revoking_since)
  WHERE lifecycle_state = 'revoking';
CREATE INDEX subscriber_network_profiles_revoked ON subscriber_network_profiles (ipv6_revoked_at)
  WHERE ipv6_state = 'revoked';

-- One row. `restored`: other systems know of effects that this ledger does not (docs/decisions/0017); no service is
-- claimed and no gate opens until a person has reconciled it.
CREATE TABLE ledger_guard (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  restored boolean NOT NULL DEFAULT false,
  detail text NOT NULL DEFAULT '',
  found_at timestamptz,
  reconciled_at timestamptz,
  reconciled_by text NOT NULL DEFAULT ''
);
INSERT INTO ledger_guard DEFAULT VALUES;
GRANT SELECT ON ledger_guard TO addrflow_app, addrflow_audit;
-- How far this ledger's effects have come, compared with the newest that AAA has seen.
GRANT SELECT ON SEQUENCE effects_id_seq TO addrflow_app;

-- The audit looks NetBox' objects up by their key.
CREATE INDEX ip_reservations_netbox_key ON ip_reservations (netbox_key) WHERE netbox_key <> '';
