-- When its service last looked at the release gate of a holding. The catch-up wakes a service that should have looked by
-- now, and leaves alone the thousands that wait and do.
ALTER TABLE holdings ADD COLUMN looked_at timestamptz;
