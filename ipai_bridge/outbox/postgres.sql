-- Every statement of the PostgreSQL outbox, by name. Parameters are psycopg2's %(name)s.
--
-- claim and settle are several statements sent as one string: one round trip, one implicit transaction, and in READ
-- COMMITTED a fresh snapshot for each statement. That freshness is what makes them right: each statement that decides
-- something comes after the one that took the locks.

-- name: emit
-- One statement for n events, through the caller's cursor, in the caller's transaction.
insert into ipai_bridge.outbox (id, aggregate_type, aggregate_id, event_type, payload, instance)
select * from unnest(
    %(ids)s::uuid[], %(aggregate_types)s::text[], %(aggregate_ids)s::text[], %(event_types)s::text[],
    %(bodies)s::json[], %(instances)s::text[]);

-- name: installed
-- Not to_regclass(): its "no" may come from a cache that a lock on nothing but an advisory number does not refresh, and
-- then everyone who waited for the installer would install again.
select exists (
    select from pg_catalog.pg_class as c
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    where n.nspname = 'ipai_bridge' and c.relname = 'schema_version');

-- name: version
select max(version) from ipai_bridge.schema_version;

-- name: lock_install
select pg_advisory_xact_lock(%(lock)s);

-- name: claim
-- 1. One relay at a time numbers new events: two at once could number an aggregate's events in different orders.
select set_config('ipai_bridge.numbering', pg_try_advisory_xact_lock(%(numbering_lock)s)::text, true);
-- 2. Number new events in the order of their insertion, but only as long as there are too few aggregates to claim:
--    so a claim costs the same whether a thousand or a million are waiting.
with ready as (
    select count(*) as aggregates
    -- Ordered only to have the index used: without statistics a scan of every idle aggregate looks cheaper.
    from (select from ipai_bridge.aggregates where due_at <= now() order by due_at limit %(limit)s) as due
), fresh as materialized (
    select id, aggregate_type, aggregate_id, instance, position
    from ipai_bridge.outbox
    where sequence is null
      and current_setting('ipai_bridge.numbering') = 'true'
      and (select aggregates from ready) < %(limit)s
    order by position
    limit %(limit)s
), numbered as (
    select *, row_number() over (partition by aggregate_type, aggregate_id, instance order by position) as nth
    from fresh
), grown as (
    insert into ipai_bridge.aggregates as a (aggregate_type, aggregate_id, instance, last_sequence, due_at)
    select aggregate_type, aggregate_id, instance, count(*), now()
    from fresh
    group by aggregate_type, aggregate_id, instance
    order by aggregate_type, aggregate_id, instance
    on conflict (aggregate_type, aggregate_id, instance) do update
        set last_sequence = a.last_sequence + excluded.last_sequence,
            due_at = coalesce(a.due_at, excluded.due_at)
    returning aggregate_type, aggregate_id, instance, last_sequence
), counted as (
    select aggregate_type, aggregate_id, instance, count(*) as events
    from fresh
    group by aggregate_type, aggregate_id, instance
)
update ipai_bridge.outbox as o
set sequence = g.last_sequence - c.events + n.nth
from numbered as n
join counted as c using (aggregate_type, aggregate_id, instance)
join grown as g using (aggregate_type, aggregate_id, instance)
where o.id = n.id;
-- 3. Lease aggregates that are due. An expired lease is due again by itself: there is no rescuer to run.
with due as materialized (
    select aggregate_type, aggregate_id, instance
    from ipai_bridge.aggregates
    where due_at <= now()
    order by due_at
    limit %(limit)s
    for update skip locked
)
update ipai_bridge.aggregates as a
set lease_token = %(token)s::uuid,
    due_at = now() + %(lease)s * interval '1 second'
from due
where a.aggregate_type = due.aggregate_type and a.aggregate_id = due.aggregate_id and a.instance = due.instance;
-- 4. Their events, in order; the fewer aggregates, the deeper into each. (Found by due_at, which has an index.)
with mine as materialized (
    select aggregate_type, aggregate_id, instance, count(*) over () as leases
    from ipai_bridge.aggregates
    where due_at = now() + %(lease)s * interval '1 second' and lease_token = %(token)s::uuid
)
select mine.aggregate_type, mine.aggregate_id, mine.instance,
       o.id, o.event_type, o.payload::text, o.sequence, o.attempts, o.created_at,
       extract(epoch from now() - coalesce(o.first_attempted_at, now()))::float8 as trying_for
from mine
left join lateral (
    select *
    from ipai_bridge.outbox as p
    where p.aggregate_type = mine.aggregate_type and p.aggregate_id = mine.aggregate_id and p.instance = mine.instance
      and p.status = 'pending' and p.sequence is not null
    order by p.sequence
    limit greatest(1, %(limit)s / mine.leases)
) as o on true
order by mine.aggregate_type, mine.aggregate_id, mine.instance, o.sequence;

-- name: settle
-- 1. Lock the aggregates, always in the same order. Numbering waits for this lock, so that what comes next sees all.
select from ipai_bridge.aggregates as a
join unnest(%(aggregate_types)s::text[], %(aggregate_ids)s::text[], %(instances)s::text[])
    as held (aggregate_type, aggregate_id, instance) using (aggregate_type, aggregate_id, instance)
order by a.aggregate_type, a.aggregate_id, a.instance
for update of a;
-- 2. What became of each event, where the lease still holds.
update ipai_bridge.outbox as o
set status = s.status,
    attempts = s.attempts,
    last_status = s.last_status,
    last_error = s.last_error,
    first_attempted_at = coalesce(o.first_attempted_at, now() - s.took * interval '1 second'),
    next_attempt_at = now() + s.delay * interval '1 second',
    delivered_at = case when s.status = 'delivered' then clock_timestamp() end
from unnest(%(ids)s::uuid[], %(tokens)s::uuid[], %(statuses)s::text[], %(attempts)s::integer[],
            %(last_statuses)s::integer[], %(last_errors)s::text[], %(delays)s::float8[], %(took)s::float8[])
    as s (id, token, status, attempts, last_status, last_error, delay, took)
where o.id = s.id
  and o.status = 'pending'
  -- Not `exists`, which may become a join on the token alone: all leases of a claim have the same.
  and s.token = (
    select a.lease_token
    from ipai_bridge.aggregates as a
    where a.aggregate_type = o.aggregate_type and a.aggregate_id = o.aggregate_id and a.instance = o.instance);
-- 3. Give back the leases that are done with, renew the others. Those not returned were lost.
update ipai_bridge.aggregates as a
set lease_token = case when held.release then null else a.lease_token end,
    due_at = case
        when not held.release then now() + %(lease)s * interval '1 second'
        else (
            select p.next_attempt_at
            from ipai_bridge.outbox as p
            where p.aggregate_type = a.aggregate_type and p.aggregate_id = a.aggregate_id and p.instance = a.instance
              and p.status = 'pending' and p.sequence is not null
            order by p.sequence
            limit 1)
    end
from unnest(%(aggregate_types)s::text[], %(aggregate_ids)s::text[], %(instances)s::text[],
            %(lease_tokens)s::uuid[], %(releases)s::boolean[])
    as held (aggregate_type, aggregate_id, instance, token, release)
where a.aggregate_type = held.aggregate_type and a.aggregate_id = held.aggregate_id and a.instance = held.instance
  and a.lease_token = held.token
returning a.aggregate_type, a.aggregate_id, a.instance, held.token;

-- name: list
select id, instance, aggregate_type, aggregate_id, event_type, sequence, status, attempts, next_attempt_at,
       last_status, last_error, created_at, delivered_at
from ipai_bridge.outbox
where (%(status)s::text is null or status = %(status)s)
  and (%(event_type)s::text is null or event_type = %(event_type)s)
  and (%(aggregate_type)s::text is null or aggregate_type = %(aggregate_type)s)
  and (%(aggregate_id)s::text is null or aggregate_id = %(aggregate_id)s)
order by position desc
limit %(limit)s;

-- name: show
select id, instance, aggregate_type, aggregate_id, event_type, sequence, status, attempts, next_attempt_at,
       last_status, last_error, created_at, delivered_at, payload::text
from ipai_bridge.outbox
where id = %(id)s::uuid;

-- name: retry
-- Dead events become pending again, with their old place in the order and a new allowance of time and attempts.
select from ipai_bridge.aggregates as a
join (
    select distinct aggregate_type, aggregate_id, instance
    from ipai_bridge.outbox
    where status = 'dead' and (%(ids)s::uuid[] is null or id = any (%(ids)s::uuid[]))
      and (%(event_type)s::text is null or event_type = %(event_type)s)
) as wanted using (aggregate_type, aggregate_id, instance)
order by a.aggregate_type, a.aggregate_id, a.instance
for update of a;
with revived as (
    update ipai_bridge.outbox
    set status = 'pending', attempts = 0, first_attempted_at = null, next_attempt_at = now()
    where status = 'dead' and (%(ids)s::uuid[] is null or id = any (%(ids)s::uuid[]))
      and (%(event_type)s::text is null or event_type = %(event_type)s)
    returning id, aggregate_type, aggregate_id, instance
), woken as (
    update ipai_bridge.aggregates as a
    set due_at = now()
    from (select distinct aggregate_type, aggregate_id, instance from revived) as r
    where a.aggregate_type = r.aggregate_type and a.aggregate_id = r.aggregate_id and a.instance = r.instance
      -- A lease is left alone: when it is given back, its holder looks for what is pending.
      and a.lease_token is null
)
select id from revived;

-- name: purge
-- Never what is pending; dead events only when they are asked for.
delete from ipai_bridge.outbox
where status = %(status)s and status in ('delivered', 'dead')
  and coalesce(delivered_at, created_at) < now() - %(older_than)s * interval '1 second';

-- name: depth
select count(*) filter (where status = 'pending') as pending,
       count(*) filter (where status = 'dead') as dead,
       extract(epoch from now() - min(created_at) filter (where status = 'pending'))::float8 as oldest_pending_age
from ipai_bridge.outbox
where status in ('pending', 'dead');
