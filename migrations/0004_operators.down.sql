DROP INDEX ip_reservations_tenant_page;
DROP INDEX effects_unconfirmed;
