-- Bindings that came from another system are old from their first day: until this moment they are no leak.
ALTER TABLE ip_reservations ADD COLUMN grace_until timestamptz;

-- In a schema other than public the roles need the right to look inside.
DO $usage$
BEGIN
  EXECUTE format('GRANT USAGE ON SCHEMA %I TO addrflow_app, addrflow_audit', current_schema());
END
$usage$;
