-- Of what ended before this moment holdings are gone: "nobody" is no answer about that time.
CREATE TABLE holdings_pruned (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  before timestamptz NOT NULL
);
INSERT INTO holdings_pruned (before)
  SELECT marked FROM (SELECT max(substring(detail FROM 'that ended before (.+)$')::timestamptz) AS marked
    FROM audit_log WHERE event = 'holdings_pruned') m WHERE marked IS NOT NULL;
GRANT SELECT ON holdings_pruned TO addrflow_audit;
