-- Online computers whose client, location or own offboarding flag is set: one row per computer, with the levels that matched.
-- It starts from the flags that are set (index extrafielddata_set), so it stays as quick when the fleet grows.
-- A flag is set when its own value, else the default row (id 0), is not '0'.
WITH flagged AS (
    SELECT c.computerid, 'client' AS level
    FROM extrafield AS f
    JOIN extrafielddata AS d ON d.extrafieldid = f.id AND d.value <> '0' AND d.id > 0
    JOIN computers AS c ON c.clientid = d.id
    WHERE f.form = 3 AND f.name = 'Offboard Client'
    UNION ALL
    SELECT c.computerid, 'location'
    FROM extrafield AS f
    JOIN extrafielddata AS d ON d.extrafieldid = f.id AND d.value <> '0' AND d.id > 0
    JOIN computers AS c ON c.locationid = d.id
    WHERE f.form = 2 AND f.name = 'Offboard Location'
    UNION ALL
    SELECT d.id, 'computer'
    FROM extrafield AS f
    JOIN extrafielddata AS d ON d.extrafieldid = f.id AND d.value <> '0' AND d.id > 0
    WHERE f.form = 1 AND f.name = 'Offboard Computer'
    UNION ALL
    -- The default row of a flag flags every place without a value of its own; a guardrail refuses such a run.
    SELECT c.computerid, 'client'
    FROM extrafield AS f
    CROSS JOIN extrafielddata AS d
    CROSS JOIN computers AS c
    WHERE f.form = 3 AND f.name = 'Offboard Client' AND d.extrafieldid = f.id AND d.id = 0 AND d.value <> '0'
    AND NOT EXISTS (SELECT 1 FROM extrafielddata AS own WHERE own.extrafieldid = f.id AND own.id = c.clientid)
    UNION ALL
    SELECT c.computerid, 'location'
    FROM extrafield AS f
    CROSS JOIN extrafielddata AS d
    CROSS JOIN computers AS c
    WHERE f.form = 2 AND f.name = 'Offboard Location' AND d.extrafieldid = f.id AND d.id = 0 AND d.value <> '0'
    AND NOT EXISTS (SELECT 1 FROM extrafielddata AS own WHERE own.extrafieldid = f.id AND own.id = c.locationid)
    UNION ALL
    SELECT c.computerid, 'computer'
    FROM extrafield AS f
    CROSS JOIN extrafielddata AS d
    CROSS JOIN computers AS c
    WHERE f.form = 1 AND f.name = 'Offboard Computer' AND d.extrafieldid = f.id AND d.id = 0 AND d.value <> '0'
    AND NOT EXISTS (SELECT 1 FROM extrafielddata AS own WHERE own.extrafieldid = f.id AND own.id = c.computerid)
), levels AS (
    SELECT computerid,
        MAX(CASE WHEN level = 'client' THEN 'client,' ELSE '' END)
        || MAX(CASE WHEN level = 'location' THEN 'location,' ELSE '' END)
        || MAX(CASE WHEN level = 'computer' THEN 'computer' ELSE '' END) AS names
    FROM flagged
    GROUP BY computerid
)
SELECT
    '1' AS TestValue,
    c.name AS IdentityField,
    c.computerid AS ComputerID,
    RTRIM(l.names, ',') AS Levels,
    a.noalerts AS NoAlerts,
    a.uptimestart AS UpTimeStart,
    a.uptimeend AS UpTimeEnd,
    -- An exclusion at any level wins over a flag at any level; the computer is reported as skipped.
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
FROM levels AS l
JOIN computers AS c ON c.computerid = l.computerid
LEFT JOIN agentcomputerdata AS a ON a.computerid = c.computerid
WHERE c.retiredat IS NULL
-- Written so that no index on lastcontact is chosen: most of the fleet is online.
AND CASE WHEN c.lastcontact > :online_since THEN 1 ELSE 0 END = 1
