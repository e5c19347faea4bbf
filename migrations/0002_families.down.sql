DROP TRIGGER ip_reservations_prefix_gone ON ip_reservations;
DROP TRIGGER ip_reservations_prefix_set ON ip_reservations;
DROP FUNCTION prefix_row_changed();
DROP FUNCTION show_prefix_in_profile(bigint, text, text);
ALTER TABLE operations DROP COLUMN left_out;
ALTER TABLE operations DROP COLUMN families;
-- One hold a reason again: the older one of two stays.
DELETE FROM holds h USING holds other WHERE h.service_id = other.service_id AND h.reason = other.reason
  AND (h.since, h.family) > (other.since, other.family);
ALTER TABLE holds DROP CONSTRAINT holds_pkey;
ALTER TABLE holds DROP COLUMN family;
ALTER TABLE holds ADD PRIMARY KEY (service_id, reason);
ALTER TABLE services DROP COLUMN restrict_when;
