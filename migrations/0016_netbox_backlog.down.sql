DROP INDEX effects_netbox_releases;
DROP INDEX effects_netbox_due;
CREATE INDEX effects_netbox_due ON effects (not_before)
  WHERE system = 'netbox' AND status IN ('planned', 'sent', 'unknown', 'refused');
