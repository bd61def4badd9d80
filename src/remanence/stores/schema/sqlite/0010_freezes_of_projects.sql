-- The freeze of an agent belongs to a project. Those of the default project keep their names; any other project's are kept
-- as `agent@PROJECT:NAME`, with `%` and `:` of its name escaped (`core.ledger.kept_scope`). A freeze that stood over the
-- agents of one name in all projects becomes one in each of them: none is lifted.
CREATE TEMPORARY TABLE other_projects AS
SELECT project, 'agent@' || replace(replace(project, '%', '%25'), ':', '%3A') || ':' AS kept FROM (
    SELECT project FROM summaries UNION SELECT project FROM versions UNION SELECT project FROM registry
) WHERE project IS NOT NULL AND project <> 'default';

-- What a freeze shows as its proof, the newest intent of an effect, was noted for the agents of one name together. It is
-- looked up again for those of every other project, and for those of the default one that shared a name with them; each
-- journal is read from its end, and only back to its newest intent.
CREATE TEMPORARY TABLE shared AS
SELECT DISTINCT 'agent:' || m.agent AS scope, m.agent FROM summaries m JOIN other_projects o ON o.project = m.project;

CREATE TEMPORARY TABLE newest AS
SELECT scope, place, max(at) AS at FROM (
    SELECT s.scope, r.place, r.at FROM (
        SELECT coalesce(o.kept, 'agent:') || m.agent AS scope, (
            SELECT r.place FROM records r
            WHERE r.place > m.id << 32 AND r.place < (m.id + 1) << 32 AND json_extract(
                CAST(coalesce(r.payload, (SELECT content FROM blobs b WHERE b.digest = r.payload_digest)) AS TEXT),
                '$.type'
            ) IN ('ModelCalled', 'ToolStarted', 'CompactionBegun')
            ORDER BY r.place DESC LIMIT 1
        ) AS place
        FROM summaries m LEFT JOIN other_projects o ON o.project = m.project
        WHERE m.agent IN (SELECT agent FROM shared)
    ) AS s JOIN records r ON r.place = s.place
    ORDER BY r.at, r.place
) GROUP BY scope;

DELETE FROM effects WHERE scope IN (SELECT scope FROM shared);

INSERT OR REPLACE INTO effects SELECT scope, place FROM newest;

INSERT INTO holds (scope, at, held_by, reason)
SELECT kept || substr(scope, 7), at, held_by, reason FROM holds CROSS JOIN other_projects WHERE substr(scope, 1, 6) = 'agent:';

UPDATE holds SET
    effect_session = (
        SELECT s.name FROM effects e JOIN sessions s ON s.id = e.place >> 32 WHERE e.scope = holds.scope
    ),
    effect_position = (SELECT e.place & 4294967295 FROM effects e WHERE e.scope = holds.scope)
WHERE substr(scope, 1, 6) IN ('agent:', 'agent@');

DROP TABLE newest;
DROP TABLE shared;
DROP TABLE other_projects;
