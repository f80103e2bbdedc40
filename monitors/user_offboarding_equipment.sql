-- Equipment of people who leave or have left that is not back on its day: one row per thing.
SELECT
    e.state || ', due ' || e.due AS TestValue,
    e.name || ' ' || CAST(e.equipmentid AS TEXT) AS IdentityField,
    c.contactid AS ContactID,
    e.name AS Equipment,
    e.serial AS Serial
FROM equipment AS e
CROSS JOIN contacts AS c
WHERE c.contactid = e.contactid AND e.state IN ('assigned', 'missing') AND e.due < :today
AND (c.status IN ('Offboarding', 'Terminated', 'Inactive', 'Former Employee') OR c.terminationdate < :today)
