-- Accounts that a look at the tenant found deleted (EXEUNT_DIRECTORY_WATCH_MINUTES). The identity counts the deletions, so who
-- was restored and deleted again is told again. After 30 days the directory has purged the account and the row is left out.
SELECT
    'deleted at ' || CAST(a.deleted_at AS TEXT) AS TestValue,
    a.upn || ' ' || a.object_id || ' ' || CAST(a.deletions AS TEXT) AS IdentityField,
    c.contactid AS ContactID,
    a.upn AS Account
FROM directory_account AS a
CROSS JOIN contacts AS c
WHERE c.clientid = a.client_id AND a.deleted_at IS NOT NULL AND a.deleted_at > :days_ago_30
AND a.upn <> ''
AND ((c.email <> '' AND LOWER(c.email) IN (a.mail, a.upn)) OR (c.upn <> '' AND LOWER(c.upn) = a.upn))
