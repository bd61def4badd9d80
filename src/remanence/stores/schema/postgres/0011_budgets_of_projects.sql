-- Budgets of agents and users belong to a project. Those of the default project keep their names; any other project's are
-- kept as `agent@PROJECT:NAME`, with `%` and `:` of its name escaped (`core.ledger.kept_scope`). A budget that projects
-- shared becomes one for each of them, with the limit and the use it had: what could not be spent before cannot be now.
CREATE TEMPORARY TABLE other_projects ON COMMIT DROP AS
SELECT project, replace(replace(project, '%', '%25'), ':', '%3A') AS escaped FROM (
    SELECT project FROM sessions UNION SELECT project FROM versions UNION SELECT project FROM registry
) AS known WHERE project NOT IN ('', 'default');

INSERT INTO budgets (scope, unit, ceiling, spent, reserved, at)
SELECT split_part(scope, ':', 1) || '@' || escaped || substr(scope, strpos(scope, ':')), unit, ceiling, spent, 0, at
FROM budgets CROSS JOIN other_projects WHERE scope LIKE 'agent:%' OR scope LIKE 'user:%';

UPDATE reservations r
SET scope = split_part(r.scope, ':', 1) || '@' || o.escaped || substr(r.scope, strpos(r.scope, ':'))
FROM sessions s JOIN other_projects o ON o.project = s.project
WHERE starts_with(r.key, s.id || ':') AND (r.scope LIKE 'agent:%' OR r.scope LIKE 'user:%');

UPDATE budgets b SET reserved = coalesce(
    (SELECT sum(amount) FROM reservations r WHERE r.scope = b.scope AND r.unit = b.unit), 0
)
WHERE scope LIKE 'agent:%' OR scope LIKE 'user:%' OR scope LIKE 'agent@%' OR scope LIKE 'user@%';
