DROP INDEX effects_due;
CREATE INDEX effects_due ON effects (not_before) WHERE status IN ('planned', 'sent', 'unknown');
