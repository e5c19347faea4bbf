ALTER TABLE holdings DROP COLUMN looked_at;
