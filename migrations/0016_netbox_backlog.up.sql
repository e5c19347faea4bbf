-- A catch-up's batch costs what the batch holds, not what the backlog holds: due rows are found in the order in which
-- they are claimed. Two indexes, for nobody waits for a release.

DROP INDEX effects_netbox_due;
CREATE INDEX effects_netbox_due ON effects (not_before, id)
  WHERE system = 'netbox' AND action NOT IN ('take', 'release') AND (status IN ('planned', 'sent', 'unknown')
    OR (status = 'refused' AND coalesce((reply->>'retry')::boolean, false)));
CREATE INDEX effects_netbox_releases ON effects (not_before, id)
  WHERE system = 'netbox' AND action = 'release' AND (status IN ('planned', 'sent', 'unknown')
    OR (status = 'refused' AND coalesce((reply->>'retry')::boolean, false)));
