-- People whose offboarding is due: flagged, planned and the time has come, told so by HR (status), or on their last day.
-- A bare date is due when it has begun in every time zone. What was started, or taken off the list, for the same
-- termination date is not found again; a flag always counts.
WITH due AS (
    -- The default row of the flag flags everybody without a value of their own; a guardrail refuses such a run.
    SELECT s.id AS contactid, 'contact' AS level
    FROM v_extradataset AS s
    WHERE s.form = 4 AND s.name = 'Offboard Contact'
    UNION ALL
    SELECT o.contact_id, 'planned'
    FROM contact_offboarding AS o
    WHERE o.run_id IS NULL AND o.removed_at IS NULL AND o.scheduled_for <= :now
    UNION ALL
    -- Planned without a time: it follows the termination date, and moves with it.
    SELECT o.contact_id, 'planned'
    FROM contact_offboarding AS o
    CROSS JOIN contacts AS c
    WHERE c.contactid = o.contact_id
    AND o.run_id IS NULL AND o.removed_at IS NULL AND o.scheduled_for IS NULL AND c.terminationdate <= :today_everywhere
    UNION ALL
    SELECT c.contactid, 'status'
    FROM contacts AS c
    WHERE c.status NOT IN ('Active', 'Former Employee') AND c.status IN ('Terminated', 'Inactive')
    AND NOT EXISTS (
        SELECT 1 FROM contact_offboarding AS h
        WHERE h.contact_id = c.contactid AND (h.run_id IS NOT NULL OR h.removed_at IS NOT NULL)
        AND COALESCE(h.termination_date, '') = COALESCE(c.terminationdate, ''))
    UNION ALL
    SELECT c.contactid, 'status'
    FROM contacts AS c
    WHERE c.status NOT IN ('Active', 'Former Employee') AND c.status = 'Offboarding'
    AND NOT EXISTS (
        SELECT 1 FROM contact_offboarding AS p WHERE p.contact_id = c.contactid AND p.run_id IS NULL AND p.removed_at IS NULL)
    AND NOT EXISTS (
        SELECT 1 FROM contact_offboarding AS h
        WHERE h.contact_id = c.contactid AND (h.run_id IS NOT NULL OR h.removed_at IS NOT NULL)
        AND COALESCE(h.termination_date, '') = COALESCE(c.terminationdate, ''))
    UNION ALL
    SELECT c.contactid, 'date'
    FROM contacts AS c
    WHERE c.terminationdate > '0000' AND c.terminationdate <= :today_everywhere AND c.status <> 'Former Employee'
    AND NOT EXISTS (
        SELECT 1 FROM contact_offboarding AS p WHERE p.contact_id = c.contactid AND p.run_id IS NULL AND p.removed_at IS NULL)
    AND NOT EXISTS (
        SELECT 1 FROM contact_offboarding AS h
        WHERE h.contact_id = c.contactid AND (h.run_id IS NOT NULL OR h.removed_at IS NOT NULL)
        AND COALESCE(h.termination_date, '') = COALESCE(c.terminationdate, ''))
), levels AS (
    SELECT contactid,
        MAX(CASE WHEN level = 'contact' THEN 'contact,' ELSE '' END)
        || MAX(CASE WHEN level = 'planned' THEN 'planned,' ELSE '' END)
        || MAX(CASE WHEN level = 'status' THEN 'status,' ELSE '' END)
        || MAX(CASE WHEN level = 'date' THEN 'date' ELSE '' END) AS names
    FROM due
    GROUP BY contactid
)
SELECT
    c.status AS TestValue,
    c.name || ' ' || COALESCE(c.terminationdate, '') AS IdentityField,
    c.contactid AS ContactID,
    RTRIM(l.names, ',') AS Levels,
    -- An exclusion at any level wins; the person is reported as skipped.
    CASE
        WHEN EXISTS (
            SELECT 1 FROM v_extradataset AS s
            WHERE s.form = 3 AND s.name = 'Exclude From Offboarding' AND s.id = c.clientid)
        THEN 'Exclude From Offboarding is set on the client'
        WHEN EXISTS (
            SELECT 1 FROM v_extradataset AS s
            WHERE s.form = 2 AND s.name = 'Exclude From Offboarding' AND s.id = c.locationid)
        THEN 'Exclude From Offboarding is set on the location'
        WHEN EXISTS (
            SELECT 1 FROM v_extradataset AS s
            WHERE s.form = 4 AND s.name = 'Exclude From Offboarding' AND s.id = c.contactid)
        THEN 'Exclude From Offboarding is set on the person'
    END AS SkipReason
FROM levels AS l
JOIN contacts AS c ON c.contactid = l.contactid
-- The security phase of a high-risk offboarding comes first; the rest follows when it is over.
WHERE NOT EXISTS (
    SELECT 1 FROM contact_offboarding AS o
    JOIN script_run AS r ON r.plan_id = o.security_plan_id
    WHERE o.contact_id = c.contactid AND o.run_id IS NULL AND r.parent_id IS NULL
    AND r.state IN ('planned', 'queued', 'running'))
