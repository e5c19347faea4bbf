CREATE OR REPLACE FUNCTION username_taken(own bigint, name text) RETURNS boolean
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
  SELECT EXISTS (
    SELECT 1 FROM services s WHERE s.username = name AND s.id <> own AND (
      EXISTS (SELECT 1 FROM ip_reservations r WHERE r.service_id = s.id AND r.lifecycle_state <> 'revoked')
      OR EXISTS (SELECT 1 FROM holdings h WHERE h.service_id = s.id AND upper_inf(h.period))))
$$;
DROP INDEX services_nameless;
