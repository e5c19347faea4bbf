-- The right to look inside the schema stays: without tables it shows nothing.
ALTER TABLE ip_reservations DROP COLUMN grace_until;
