-- The catch-up finds what was refused and is worth another attempt as well.

DROP INDEX effects_due;
CREATE INDEX effects_due ON effects (not_before) WHERE status IN ('planned', 'sent', 'unknown')
  OR (status = 'refused' AND coalesce((reply->>'retry')::boolean, false));
