REVOKE SELECT ON SEQUENCE effects_id_seq FROM addrflow_app;
DROP TABLE ledger_guard;
DROP INDEX ip_reservations_netbox_key, subscriber_network_profiles_revoked, ip_reservations_revoking, ip_reservations_allocated,
  ip_reservations_revoked, holdings_releasing, holdings_closed;
CREATE OR REPLACE FUNCTION holdings_are_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' THEN
    RAISE EXCEPTION 'holdings are never deleted';
  END IF;
  IF NOT upper_inf(OLD.period) OR (NEW.tenant_id, NEW.service_id, NEW.space, NEW.ports,
      NEW.routing_domain_id, lower(NEW.period)) IS DISTINCT FROM (OLD.tenant_id, OLD.service_id,
      OLD.space, OLD.ports, OLD.routing_domain_id, lower(OLD.period)) THEN
    RAISE EXCEPTION 'holdings are only ever closed';
  END IF;
  RETURN NEW;
END
$$;
