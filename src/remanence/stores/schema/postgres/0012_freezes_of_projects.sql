-- The freeze of an agent belongs to a project. Those of the default project keep their names; any other project's are kept
-- as `agent@PROJECT:NAME`, with `%` and `:` of its name escaped (`core.ledger.kept_scope`). A freeze that stood over the
-- agents of one name in all projects becomes one in each of them, with the last effect there as its proof: none is lifted.
CREATE FUNCTION agent_scope(project text, agent text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN project = 'default' THEN 'agent:'
        ELSE 'agent@' || replace(replace(project, '%', '%25'), ':', '%3A') || ':' END || agent
$$;

INSERT INTO holds (scope, at, held_by, reason)
SELECT agent_scope(project, substr(scope, 7)), at, held_by, reason
FROM holds CROSS JOIN (
    SELECT project FROM sessions UNION SELECT project FROM versions UNION SELECT project FROM registry
) AS known
WHERE scope LIKE 'agent:%' AND project <> 'default';

UPDATE holds h SET effect_session = last.id, effect_position = last.effect_position
FROM holds h2 LEFT JOIN LATERAL (
    SELECT s.id, s.effect_position FROM sessions s
    WHERE s.effect_at IS NOT NULL AND agent_scope(s.project, s.agent) = h2.scope
    ORDER BY s.effect_at DESC LIMIT 1
) AS last ON true
WHERE h2.scope = h.scope AND (h.scope LIKE 'agent:%' OR h.scope LIKE 'agent@%');

-- As in `0002_append_group.sql`, which tells the whole of it, and `0010_snapshots.sql`, but for the scope of an agent.
CREATE OR REPLACE FUNCTION append_group(
    p_sid bigint[], p_head bigint[], p_count integer[], p_flags integer[], p_at bigint[], p_epoch integer[],
    p_actor text[], p_worker text[], p_wake bigint[], p_effect bigint[], p_status text[], p_waiting text[],
    p_turns integer[], p_usd bigint[], p_tokens bigint[], p_snapshot bytea[],
    p_payloads bytea[], p_sizes bytea[], p_digests bytea[], p_gated boolean, p_scopes text[]
) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    held text[];
    counted boolean := false;
    done bigint[];
BEGIN
    IF p_gated THEN
        PERFORM pg_advisory_xact_lock_shared(5927136210241);
        SELECT array_agg(scope) INTO held FROM holds;
    END IF;
    IF p_scopes IS NOT NULL THEN
        counted := EXISTS (SELECT FROM unnest(p_scopes) AS asked(scope) JOIN budgets USING (scope));
    END IF;
    WITH moved AS (
        UPDATE sessions s SET
            head = w.head + w.count,
            digest = substring(w.digests FROM octet_length(w.digests) - 31),
            behind = true,
            updated_at = greatest(s.updated_at, w.at),
            updated_minute = greatest(s.updated_minute, (w.at / 60000000)::integer),
            wake_at = CASE
                WHEN w.flags & 3 = 0 THEN CASE
                    WHEN w.flags & 4 = 0 THEN s.wake_at
                    WHEN w.flags & 64 <> 0 AND s.worker = w.worker
                        AND s.lease_until > w.at AND s.lease_until <= w.at + 3600000000 THEN s.wake_at
                    ELSE least(s.wake_at, w.at) END
                ELSE least(
                    CASE WHEN w.flags & 2 = 0 THEN s.lease_until ELSE w.wake END,
                    CASE WHEN w.flags & 16 = 0 AND s.wake_at < s.lease_until THEN s.wake_at END,
                    CASE WHEN w.flags & 4 <> 0 THEN w.at END)
            END,
            lease_until = CASE WHEN w.flags & 2 = 0 THEN s.lease_until END,
            worker = CASE WHEN w.flags & 2 = 0 THEN s.worker END,
            effect_at = CASE WHEN w.effect IS NULL THEN s.effect_at ELSE clock_timestamp() END,
            effect_position = coalesce(w.effect, s.effect_position),
            status = coalesce(w.status, s.status),
            waiting_on = coalesce(w.waiting, s.waiting_on),
            turns = coalesce(w.turns, s.turns),
            usd_micros = coalesce(w.usd, s.usd_micros),
            tokens = coalesce(w.tokens, s.tokens)
        FROM unnest(
            p_sid, p_head, p_count, p_flags, p_at, p_epoch, p_worker, p_wake, p_effect,
            p_status, p_waiting, p_turns, p_usd, p_tokens, p_digests
        ) AS w(
            sid, head, count, flags, at, epoch, worker, wake, effect,
            status, waiting, turns, usd, tokens, digests
        )
        WHERE s.sid = w.sid AND s.head = w.head
            AND (w.flags & 1 = 0 OR (s.epoch = w.epoch AND s.worker = w.worker))
            AND (w.flags & 32 = 0 OR NOT counted)
            AND (w.flags & 8 = 0 OR (s.frozen = 0 AND (held IS NULL
                OR NOT held && ARRAY['all', 'project:' || s.project, agent_scope(s.project, s.agent)])))
        RETURNING s.sid
    )
    SELECT array_agg(sid) INTO done FROM moved;
    INSERT INTO records (sid, position, at, epoch, actor, payloads, sizes, digests)
    SELECT w.sid, w.head + w.count, w.at, w.epoch, w.actor, w.payloads, w.sizes, w.digests
    FROM unnest(p_sid, p_head, p_count, p_at, p_epoch, p_actor, p_payloads, p_sizes, p_digests)
        AS w(sid, head, count, at, epoch, actor, payloads, sizes, digests)
    WHERE cardinality(done) = cardinality(p_sid) OR w.sid = ANY (done);
    IF p_snapshot IS NOT NULL THEN
        INSERT INTO snapshots (sid, position, state)
        SELECT w.sid, w.head + w.count, w.snapshot
        FROM unnest(p_sid, p_head, p_count, p_snapshot) AS w(sid, head, count, snapshot)
        WHERE w.snapshot IS NOT NULL AND (cardinality(done) = cardinality(p_sid) OR w.sid = ANY (done));
    END IF;
    RETURN CASE WHEN cardinality(done) = cardinality(p_sid) THEN NULL ELSE coalesce(done, '{}') END;
END $$;
