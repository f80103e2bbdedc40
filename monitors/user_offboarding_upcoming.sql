-- People who leave within the next seven days: their manager is told, and what must be done before is asked for.
-- The date is part of the identity, so a date that moves is told again.
WITH upcoming AS (
    SELECT c.contactid
    FROM contacts AS c
    WHERE c.terminationdate > :today_everywhere AND c.terminationdate <= :today_plus_7
    AND NOT EXISTS (
        SELECT 1 FROM contact_offboarding AS h
        WHERE h.contact_id = c.contactid AND (h.run_id IS NOT NULL OR h.removed_at IS NOT NULL)
        AND COALESCE(h.termination_date, '') = COALESCE(c.terminationdate, ''))
    UNION
    SELECT p.contact_id
    FROM contact_offboarding AS p
    WHERE p.run_id IS NULL AND p.removed_at IS NULL AND p.scheduled_for > :now AND p.scheduled_for <= :days_ahead_7
)
SELECT
    COALESCE(c.terminationdate, '') AS TestValue,
    c.name || ' ' || COALESCE(c.terminationdate, '') AS IdentityField,
    c.contactid AS ContactID,
    'planned' AS Levels
FROM upcoming AS u
JOIN contacts AS c ON c.contactid = u.contactid
WHERE c.status <> 'Former Employee'
