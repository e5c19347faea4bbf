-- The measurements of the last emission, as a scrape gets them: every worker hands out the same ones.
CREATE TABLE emitted_metrics (
  part text PRIMARY KEY CHECK (part IN ('ipv4', 'ipv6_pd', 'effects')),
  emitted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  exposition text NOT NULL
);
