-- People whose ticket "Equipment to return" is open although everything is back, until the ticket is closed.
SELECT
    'ticket ' || CAST(t.id AS TEXT) AS TestValue,
    c.name || ' ' || CAST(t.id AS TEXT) AS IdentityField,
    c.contactid AS ContactID
FROM ticket AS t
CROSS JOIN contacts AS c
WHERE t.contact_id = c.contactid AND t.closed_at IS NULL
AND t.key = 'equipment:contact:' || CAST(c.contactid AS TEXT)
AND EXISTS (SELECT 1 FROM equipment AS e WHERE e.contactid = c.contactid)
AND NOT EXISTS (
    SELECT 1 FROM equipment AS e WHERE e.contactid = c.contactid AND e.state IN ('assigned', 'missing'))
