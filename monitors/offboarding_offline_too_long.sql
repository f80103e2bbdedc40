-- Computers that are flagged for offboarding and have been offline for too long (EXEUNT_OFFLINE_EXPIRY_DAYS, else 14 days).
-- They are reported and nothing is forced: the agent of an offline computer cannot be removed.
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
)
SELECT
    c.lastcontact AS TestValue,
    c.name AS IdentityField,
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
FROM (SELECT DISTINCT computerid FROM flagged) AS f
JOIN computers AS c ON c.computerid = f.computerid
WHERE c.retiredat IS NULL
-- A computer that was never seen counts from the day it was added.
AND CASE WHEN COALESCE(c.lastcontact, c.dateadded) < :offline_expired THEN 1 ELSE 0 END = 1
