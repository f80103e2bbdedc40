-- Locations whose flag `Offboard Location` stays set: nothing is left to offboard there, or it has been set for a week.
-- A computer that is added there later would be offboarded too.
SELECT
    (SELECT COUNT(*) FROM computers AS c WHERE c.locationid = p.locationid AND c.retiredat IS NULL) AS TestValue,
    p.name AS IdentityField,
    p.locationid AS LocationID
FROM extrafield AS f
JOIN extrafielddata AS d ON d.extrafieldid = f.id AND d.value <> '0' AND d.id > 0
JOIN locations AS p ON p.locationid = d.id
WHERE f.form = 2 AND f.name = 'Offboard Location'
AND (
    NOT EXISTS (SELECT 1 FROM computers AS c WHERE c.locationid = p.locationid AND c.retiredat IS NULL)
    OR (SELECT MAX(x.changedat) FROM extrafieldchange AS x WHERE x.extrafieldid = f.id AND x.id = p.locationid) < :days_ago_7
)
