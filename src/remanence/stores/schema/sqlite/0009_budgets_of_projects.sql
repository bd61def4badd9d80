-- Budgets of agents and users belong to a project. Those of the default project keep their names; any other project's are
-- kept as `agent@PROJECT:NAME`, with `%` and `:` of its name escaped (`core.ledger.kept_scope`). A budget that projects
-- shared becomes one for each of them, with the limit and the use it had: what could not be spent before cannot be now.
CREATE TEMPORARY TABLE other_projects AS
SELECT project, replace(replace(project, '%', '%25'), ':', '%3A') AS escaped FROM (
    SELECT project FROM summaries UNION SELECT project FROM versions UNION SELECT project FROM registry
) WHERE project IS NOT NULL AND project NOT IN ('', 'default');

INSERT INTO budgets (scope, unit, ceiling, spent, reserved, at)
SELECT substr(scope, 1, instr(scope, ':') - 1) || '@' || escaped || substr(scope, instr(scope, ':')),
       unit, ceiling, spent, 0, at
FROM budgets CROSS JOIN other_projects WHERE scope LIKE 'agent:%' OR scope LIKE 'user:%';

UPDATE reservations SET scope = (
    SELECT substr(scope, 1, instr(scope, ':') - 1) || '@' || o.escaped || substr(scope, instr(scope, ':'))
    FROM sessions s JOIN summaries m ON m.id = s.id JOIN other_projects o ON o.project = m.project
    WHERE substr(reservations.key, 1, length(s.name) + 1) = s.name || ':'
)
WHERE (scope LIKE 'agent:%' OR scope LIKE 'user:%') AND EXISTS (
    SELECT 1 FROM sessions s JOIN summaries m ON m.id = s.id JOIN other_projects o ON o.project = m.project
    WHERE substr(reservations.key, 1, length(s.name) + 1) = s.name || ':'
);

UPDATE budgets SET reserved = coalesce(
    (SELECT sum(amount) FROM reservations r WHERE r.scope = budgets.scope AND r.unit = budgets.unit), 0
)
WHERE scope LIKE 'agent:%' OR scope LIKE 'user:%' OR scope LIKE 'agent@%' OR scope LIKE 'user@%';

DROP TABLE other_projects;
