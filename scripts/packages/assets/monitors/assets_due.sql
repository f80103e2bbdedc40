-- People who leave or have left and have something that is due within three days, or overdue: one row per person.
SELECT
    CAST(COUNT(*) AS TEXT) || ' to return, first due ' || MIN(e.due) AS TestValue,
    c.name || ' ' || CAST(c.contactid AS TEXT) AS IdentityField,
    c.contactid AS ContactID
FROM equipment AS e
CROSS JOIN contacts AS c
WHERE c.contactid = e.contactid AND e.state IN ('assigned', 'missing') AND e.due <= :today_plus_3
AND (c.status IN ('Offboarding', 'Terminated', 'Inactive', 'Former Employee') OR c.terminationdate <= :today_plus_3)
GROUP BY c.contactid, c.name
