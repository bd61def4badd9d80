-- One group of plain appends, in one round trip: each write moves its session's row if that row is still what the writer
-- believes, and the records of those that matched are journaled. Answers NULL when all matched, else the sids that did;
-- the others were left untouched and the writer looks closer at each (`postgres_careful.py` has the same rules in full).
--
-- It is PL/pgSQL for one reason besides the round trip: each of its statements sees what was committed before it began,
-- so that the holds are read after the gate was passed. A freeze holds the gate alone: once it has it, every group that
-- did not see the hold has committed, and every later one will see it.
--
-- Flags of a write: 1 under a lease, 2 gives it back, 4 makes the session due, 8 starts an effect, 16 expects the head,
-- 32 moves a budget, 64 makes it due only when `worker` does not hold it. The wake-up follows `rows.py`: only a write
-- that has seen every record may clear one.

CREATE FUNCTION append_group(
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
            tokens = coalesce(w.tokens, s.tokens),
            snapshot = coalesce(w.snapshot, s.snapshot),
            snapshot_position = CASE WHEN w.snapshot IS NULL THEN s.snapshot_position ELSE w.head + w.count END
        FROM unnest(
            p_sid, p_head, p_count, p_flags, p_at, p_epoch, p_worker, p_wake, p_effect,
            p_status, p_waiting, p_turns, p_usd, p_tokens, p_snapshot, p_digests
        ) AS w(
            sid, head, count, flags, at, epoch, worker, wake, effect,
            status, waiting, turns, usd, tokens, snapshot, digests
        )
        WHERE s.sid = w.sid AND s.head = w.head
            AND (w.flags & 1 = 0 OR (s.epoch = w.epoch AND s.worker = w.worker))
            AND (w.flags & 32 = 0 OR NOT counted)
            AND (w.flags & 8 = 0 OR (s.frozen = 0 AND (held IS NULL
                OR NOT held && ARRAY['all', 'project:' || s.project, 'agent:' || s.agent])))
        RETURNING s.sid
    )
    SELECT array_agg(sid) INTO done FROM moved;
    INSERT INTO records (sid, position, at, epoch, actor, payloads, sizes, digests)
    SELECT w.sid, w.head + w.count, w.at, w.epoch, w.actor, w.payloads, w.sizes, w.digests
    FROM unnest(p_sid, p_head, p_count, p_at, p_epoch, p_actor, p_payloads, p_sizes, p_digests)
        AS w(sid, head, count, at, epoch, actor, payloads, sizes, digests)
    WHERE cardinality(done) = cardinality(p_sid) OR w.sid = ANY (done);
    RETURN CASE WHEN cardinality(done) = cardinality(p_sid) THEN NULL ELSE coalesce(done, '{}') END;
END $$;
