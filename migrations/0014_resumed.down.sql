ALTER TABLE operations DROP COLUMN resumed;
