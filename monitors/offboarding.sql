-- Online computers whose client, location or own offboarding flag is set: one row per computer, with the levels that matched.
-- It starts from the flags that are set (index extrafielddata_set), so it stays as quick when the fleet grows.
-- A flag is set when its own value, else the default row (id 0), is not '0'.
WITH levels AS (
    SELECT computerid,
        MAX(CASE WHEN level = 'client' THEN 'client,' ELSE '' END)
        || MAX(CASE WHEN level = 'location' THEN 'location,' ELSE '' END)
        || MAX(CASE WHEN level = 'computer' THEN 'computer' ELSE '' END) AS names
    FROM v_offboardlevels
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
            SELECT 1 FROM v_extradataset AS s
            WHERE s.form = 3 AND s.name = 'Exclude From Offboarding' AND s.id = c.clientid)
        THEN 'Exclude From Offboarding is set on its client'
        WHEN EXISTS (
            SELECT 1 FROM v_extradataset AS s
            WHERE s.form = 2 AND s.name = 'Exclude From Offboarding' AND s.id = c.locationid)
        THEN 'Exclude From Offboarding is set on its location'
        WHEN EXISTS (
            SELECT 1 FROM v_extradataset AS s
            WHERE s.form = 1 AND s.name = 'Exclude From Offboarding' AND s.id = c.computerid)
        THEN 'Exclude From Offboarding is set on it'
    END AS SkipReason
FROM levels AS l
JOIN computers AS c ON c.computerid = l.computerid
LEFT JOIN agentcomputerdata AS a ON a.computerid = c.computerid
WHERE c.retiredat IS NULL
-- Written so that no index on lastcontact is chosen: most of the fleet is online.
AND CASE WHEN c.lastcontact > :online_since THEN 1 ELSE 0 END = 1
