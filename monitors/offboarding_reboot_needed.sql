-- Flagged online computers whose last offboarding ended in "reboot needed" and that were booted since.
WITH flagged AS (
    SELECT c.computerid
    FROM extrafield AS f
    JOIN extrafielddata AS d ON d.extrafieldid = f.id AND d.value <> '0' AND d.id > 0
    JOIN computers AS c ON c.clientid = d.id
    WHERE f.form = 3 AND f.name = 'Offboard Client'
    UNION ALL
    SELECT c.computerid
    FROM extrafield AS f
    JOIN extrafielddata AS d ON d.extrafieldid = f.id AND d.value <> '0' AND d.id > 0
    JOIN computers AS c ON c.locationid = d.id
    WHERE f.form = 2 AND f.name = 'Offboard Location'
    UNION ALL
    SELECT d.id
    FROM extrafield AS f
    JOIN extrafielddata AS d ON d.extrafieldid = f.id AND d.value <> '0' AND d.id > 0
    WHERE f.form = 1 AND f.name = 'Offboard Computer'
    UNION ALL
    -- The default row of a flag flags every place without a value of its own; a guardrail refuses such a run.
    SELECT c.computerid
    FROM extrafield AS f
    CROSS JOIN extrafielddata AS d
    CROSS JOIN computers AS c
    WHERE f.form = 3 AND f.name = 'Offboard Client' AND d.extrafieldid = f.id AND d.id = 0 AND d.value <> '0'
    AND NOT EXISTS (SELECT 1 FROM extrafielddata AS own WHERE own.extrafieldid = f.id AND own.id = c.clientid)
    UNION ALL
    SELECT c.computerid
    FROM extrafield AS f
    CROSS JOIN extrafielddata AS d
    CROSS JOIN computers AS c
    WHERE f.form = 2 AND f.name = 'Offboard Location' AND d.extrafieldid = f.id AND d.id = 0 AND d.value <> '0'
    AND NOT EXISTS (SELECT 1 FROM extrafielddata AS own WHERE own.extrafieldid = f.id AND own.id = c.locationid)
    UNION ALL
    SELECT c.computerid
    FROM extrafield AS f
    CROSS JOIN extrafielddata AS d
    CROSS JOIN computers AS c
    WHERE f.form = 1 AND f.name = 'Offboard Computer' AND d.extrafieldid = f.id AND d.id = 0 AND d.value <> '0'
    AND NOT EXISTS (SELECT 1 FROM extrafielddata AS own WHERE own.extrafieldid = f.id AND own.id = c.computerid)
), last_run AS (
    SELECT r.id, r.target_id, r.finished_at
    FROM (SELECT DISTINCT computerid FROM flagged) AS f
    JOIN script_run AS r ON r.target_kind = 'computer' AND r.target_id = f.computerid
    WHERE r.parent_id IS NULL AND r.exclusive
    AND NOT EXISTS (
        SELECT 1 FROM script_run AS later
        WHERE later.target_kind = 'computer' AND later.target_id = r.target_id AND later.parent_id IS NULL
        AND later.exclusive AND later.created_at > r.created_at)
)
SELECT
    l.finished_at AS TestValue,
    -- The run is part of the identity, so that each offboarding is followed up on its own.
    c.name || ' ' || l.id AS IdentityField,
    c.computerid AS ComputerID,
    CASE
        WHEN EXISTS (
            SELECT 1 FROM extrafield AS f
            WHERE f.form = 3 AND f.name = 'Exclude From Offboarding'
            AND COALESCE((SELECT d.value FROM extrafielddata AS d WHERE d.extrafieldid = f.id AND d.id = c.clientid),
                (SELECT d.value FROM extrafielddata AS d WHERE d.extrafieldid = f.id AND d.id = 0), '0') <> '0')
        THEN 'Exclude From Offboarding is set on its client'
        WHEN EXISTS (
            SELECT 1 FROM extrafield AS f
            WHERE f.form = 2 AND f.name = 'Exclude From Offboarding'
            AND COALESCE((SELECT d.value FROM extrafielddata AS d WHERE d.extrafieldid = f.id AND d.id = c.locationid),
                (SELECT d.value FROM extrafielddata AS d WHERE d.extrafieldid = f.id AND d.id = 0), '0') <> '0')
        THEN 'Exclude From Offboarding is set on its location'
        WHEN EXISTS (
            SELECT 1 FROM extrafield AS f
            WHERE f.form = 1 AND f.name = 'Exclude From Offboarding'
            AND COALESCE((SELECT d.value FROM extrafielddata AS d WHERE d.extrafieldid = f.id AND d.id = c.computerid),
                (SELECT d.value FROM extrafielddata AS d WHERE d.extrafieldid = f.id AND d.id = 0), '0') <> '0')
        THEN 'Exclude From Offboarding is set on it'
    END AS SkipReason
FROM last_run AS l
JOIN computers AS c ON c.computerid = l.target_id
WHERE c.retiredat IS NULL AND c.bootedat > l.finished_at
AND CASE WHEN c.lastcontact > :online_since THEN 1 ELSE 0 END = 1
AND EXISTS (SELECT 1 FROM run_step AS s WHERE s.root_id = l.id AND s.state = 'reboot_needed')
