-- People whose accounts were deleted so long ago that the client's policy (backup_retention_days) lets their backups go.
-- The engine asks again for a legal hold before anything is deleted; a hold is told here as the reason why nothing is done.
SELECT
    CAST(o.data_until AS TEXT) AS TestValue,
    c.name || ' ' || o.id AS IdentityField,
    c.contactid AS ContactID,
    'retention' AS Levels,
    CASE WHEN c.legalhold THEN 'the person is under a legal hold' END AS SkipReason
FROM contact_offboarding AS o
CROSS JOIN contacts AS c
WHERE c.contactid = o.contact_id AND o.data_until <= :now AND o.data_deleted_at IS NULL AND o.deleted_at IS NOT NULL
-- Who came back is not touched.
AND c.status NOT IN ('Active', 'On Leave')
AND NOT EXISTS (
    SELECT 1 FROM contact_offboarding AS later
    WHERE later.contact_id = o.contact_id AND later.started_at > o.started_at)
