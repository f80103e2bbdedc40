-- Computers that are flagged for offboarding and have been offline for too long (EXEUNT_OFFLINE_EXPIRY_DAYS).
-- They are reported and nothing is forced: the agent of an offline computer cannot be removed.
SELECT
    c.lastcontact AS TestValue,
    c.name AS IdentityField,
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
FROM (SELECT DISTINCT computerid FROM v_offboardlevels) AS f
JOIN computers AS c ON c.computerid = f.computerid
WHERE c.retiredat IS NULL
-- A computer that was never seen counts from the day it was added.
AND CASE WHEN COALESCE(c.lastcontact, c.dateadded) < :offline_expired THEN 1 ELSE 0 END = 1
