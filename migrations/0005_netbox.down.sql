DROP TABLE netbox_health;
DROP TABLE netbox_writers;
REVOKE INSERT ON pool_exclusions FROM addrflow_app;
ALTER TABLE ip_pools DROP COLUMN netbox_imported_at;
DROP INDEX effects_object;
DROP INDEX effects_netbox_due;
ALTER TABLE effects DROP COLUMN leased_until;
