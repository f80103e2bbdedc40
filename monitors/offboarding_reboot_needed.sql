-- Flagged online computers whose last offboarding ended in "reboot needed" and that were booted since.
WITH last_run AS (
    SELECT r.id, r.target_id, r.finished_at
    FROM (SELECT DISTINCT computerid FROM v_offboardlevels) AS f
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
FROM last_run AS l
JOIN computers AS c ON c.computerid = l.target_id
WHERE c.retiredat IS NULL AND c.bootedat > l.finished_at
AND CASE WHEN c.lastcontact > :online_since THEN 1 ELSE 0 END = 1
AND EXISTS (SELECT 1 FROM run_step AS s WHERE s.root_id = l.id AND s.state = 'reboot_needed')
