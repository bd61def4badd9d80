-- `append_group` of `0012_freezes_of_projects.sql` for a group of one, which most are where turns are not many at once: the
-- same rules without an array in the way, at two thirds of the time. `0002_append_group.sql` tells what they mean.
-- Answers NULL when the write matched and an empty array when it did not, as the other does.
CREATE FUNCTION append_one(
    p_sid bigint, p_head bigint, p_count integer, p_flags integer, p_at bigint, p_epoch integer,
    p_actor text, p_worker text, p_wake bigint, p_effect bigint, p_status text, p_waiting text,
    p_turns integer, p_usd bigint, p_tokens bigint, p_snapshot bytea,
    p_payloads bytea, p_sizes bytea, p_digests bytea, p_gated boolean, p_scopes text[]
) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    held text[];
    counted boolean := false;
BEGIN
    IF p_gated THEN
        PERFORM pg_advisory_xact_lock_shared(5927136210241);
        SELECT array_agg(scope) INTO held FROM holds;
    END IF;
    IF p_scopes IS NOT NULL THEN
        counted := EXISTS (SELECT FROM unnest(p_scopes) AS asked(scope) JOIN budgets USING (scope));
    END IF;
    UPDATE sessions s SET
        head = p_head + p_count,
        digest = substring(p_digests FROM octet_length(p_digests) - 31),
        behind = true,
        updated_at = greatest(s.updated_at, p_at),
        updated_minute = greatest(s.updated_minute, (p_at / 60000000)::integer),
        wake_at = CASE
            WHEN p_flags & 3 = 0 THEN CASE
                WHEN p_flags & 4 = 0 THEN s.wake_at
                WHEN p_flags & 64 <> 0 AND s.worker = p_worker
                    AND s.lease_until > p_at AND s.lease_until <= p_at + 3600000000 THEN s.wake_at
                ELSE least(s.wake_at, p_at) END
            ELSE least(
                CASE WHEN p_flags & 2 = 0 THEN s.lease_until ELSE p_wake END,
                CASE WHEN p_flags & 16 = 0 AND s.wake_at < s.lease_until THEN s.wake_at END,
                CASE WHEN p_flags & 4 <> 0 THEN p_at END)
        END,
        lease_until = CASE WHEN p_flags & 2 = 0 THEN s.lease_until END,
        worker = CASE WHEN p_flags & 2 = 0 THEN s.worker END,
        effect_at = CASE WHEN p_effect IS NULL THEN s.effect_at ELSE clock_timestamp() END,
        effect_position = coalesce(p_effect, s.effect_position),
        status = coalesce(p_status, s.status),
        waiting_on = coalesce(p_waiting, s.waiting_on),
        turns = coalesce(p_turns, s.turns),
        usd_micros = coalesce(p_usd, s.usd_micros),
        tokens = coalesce(p_tokens, s.tokens)
    WHERE s.sid = p_sid AND s.head = p_head
        AND (p_flags & 1 = 0 OR (s.epoch = p_epoch AND s.worker = p_worker))
        AND (p_flags & 32 = 0 OR NOT counted)
        AND (p_flags & 8 = 0 OR (s.frozen = 0 AND (held IS NULL
            OR NOT held && ARRAY['all', 'project:' || s.project, agent_scope(s.project, s.agent)])));
    IF NOT FOUND THEN RETURN '{}'; END IF;
    INSERT INTO records (sid, position, at, epoch, actor, payloads, sizes, digests)
    VALUES (p_sid, p_head + p_count, p_at, p_epoch, p_actor, p_payloads, p_sizes, p_digests);
    IF p_snapshot IS NOT NULL THEN
        INSERT INTO snapshots (sid, position, state) VALUES (p_sid, p_head + p_count, p_snapshot);
    END IF;
    RETURN NULL;
END $$;
