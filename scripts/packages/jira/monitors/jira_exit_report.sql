-- Offboardings whose exit report is written and whose ticket is one of Jira's (a key such as IT-42), until the report is there.
SELECT
    t.value AS TestValue,
    c.name || ' ' || o.id AS IdentityField,
    c.contactid AS ContactID
FROM contact_offboarding AS o
CROSS JOIN contacts AS c
CROSS JOIN extrafield AS f
CROSS JOIN extrafielddata AS t
WHERE c.contactid = o.contact_id AND o.run_id IS NOT NULL
AND f.form = 4 AND f.name = 'Offboarding Ticket' AND t.extrafieldid = f.id AND t.id = c.contactid AND t.value LIKE '%-%'
AND EXISTS (
    SELECT 1 FROM audit_entry AS a
    WHERE a.action = 'report.write' AND a.object_kind = 'run' AND a.object_id = o.run_id)
AND NOT EXISTS (
    SELECT 1 FROM contact_offboarding AS later
    WHERE later.contact_id = o.contact_id AND later.started_at > o.started_at)
AND NOT EXISTS (
    SELECT 1 FROM script_run AS r
    WHERE r.script = 'Jira - Exit Report' AND r.target_kind = 'contact' AND r.target_id = c.contactid
    AND r.created_at > o.started_at AND r.state IN ('succeeded', 'partial'))
