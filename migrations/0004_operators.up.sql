-- What operators look for: effects that nobody has confirmed, by tenant.
CREATE INDEX effects_unconfirmed ON effects (tenant_id, id)
  WHERE status IN ('planned', 'sent', 'unknown', 'refused');
-- The newest binding of each family, page by page.
CREATE INDEX ip_reservations_tenant_page ON ip_reservations (tenant_id, id);
