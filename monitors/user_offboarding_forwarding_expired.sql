-- People who left and whose mail was forwarded long enough.
SELECT
    CAST(o.forwarding_until AS TEXT) AS TestValue,
    c.name || ' ' || o.id AS IdentityField,
    c.contactid AS ContactID,
    'planned' AS Levels
FROM contact_offboarding AS o
CROSS JOIN contacts AS c
WHERE c.contactid = o.contact_id AND o.forwarding_until <= :now AND o.forwarding_ended_at IS NULL AND o.deleted_at IS NULL
AND c.status NOT IN ('Active', 'On Leave')
AND NOT EXISTS (
    SELECT 1 FROM contact_offboarding AS later
    WHERE later.contact_id = o.contact_id AND later.started_at > o.started_at)
