-- Every statement of the SQLite outbox, by name. Times are seconds since the epoch, given as :now.
-- What the columns mean stands in schema.sql: this is the same state machine.

-- name: schema
create table if not exists outbox (
    position integer primary key autoincrement,
    id text not null unique,
    aggregate_type text not null,
    aggregate_id text not null check (aggregate_id <> ''),
    event_type text not null,
    payload text not null check (json_valid(payload) and length(cast(payload as blob)) <= 1048576),
    sequence integer check (sequence > 0),
    instance text not null,
    status text not null default 'pending' check (status in ('pending', 'delivered', 'dead')),
    attempts integer not null default 0 check (attempts >= 0),
    next_attempt_at real not null,
    last_status integer,
    last_error text,
    created_at real not null,
    first_attempted_at real,
    delivered_at real,
    check (status = 'pending' or sequence is not null),
    check ((status = 'delivered') = (delivered_at is not null)),
    check (status <> 'dead' or last_error is not null)
);
create table if not exists aggregates (
    aggregate_type text not null,
    aggregate_id text not null,
    instance text not null,
    last_sequence integer not null check (last_sequence > 0),
    due_at real,
    lease_token text,
    primary key (aggregate_type, aggregate_id, instance),
    check (lease_token is null or due_at is not null)
) without rowid;
create index if not exists outbox_unnumbered on outbox (position) where sequence is null;
create unique index if not exists outbox_pending on outbox (aggregate_type, aggregate_id, instance, sequence)
    where status = 'pending' and sequence is not null;
create index if not exists outbox_dead on outbox (position) where status = 'dead';
create index if not exists aggregates_due on aggregates (due_at) where due_at is not null;
pragma user_version = 1;

-- name: emit
insert into outbox (id, aggregate_type, aggregate_id, event_type, payload, instance, next_attempt_at, created_at)
select value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, :now, :now
from json_each(:events)
order by key;

-- name: ready
select count(*) from (select 1 from aggregates where due_at <= :now limit :limit);

-- name: unnumbered
select position, aggregate_type, aggregate_id, instance from outbox where sequence is null order by position limit :limit;

-- name: grow
insert into aggregates (aggregate_type, aggregate_id, instance, last_sequence, due_at)
values (:aggregate_type, :aggregate_id, :instance, 1, :now)
on conflict (aggregate_type, aggregate_id, instance) do update
    set last_sequence = last_sequence + 1, due_at = coalesce(due_at, excluded.due_at)
returning last_sequence;

-- name: number
update outbox set sequence = :sequence where position = :position;

-- name: lease
update aggregates set lease_token = :token, due_at = :until
where (aggregate_type, aggregate_id, instance) in (
    select aggregate_type, aggregate_id, instance from aggregates where due_at <= :now order by due_at limit :limit)
returning aggregate_type, aggregate_id, instance;

-- name: events
select id, event_type, payload, sequence, attempts, created_at, :now - coalesce(first_attempted_at, :now)
from outbox
where aggregate_type = :aggregate_type and aggregate_id = :aggregate_id and instance = :instance
  and status = 'pending' and sequence is not null
order by sequence
limit :limit;

-- name: settle
update outbox
set status = :status,
    attempts = :attempts,
    last_status = :last_status,
    last_error = :last_error,
    first_attempted_at = coalesce(first_attempted_at, :now - :took),
    next_attempt_at = :now + :delay,
    delivered_at = case when :status = 'delivered' then :now end
where id = :id and status = 'pending'
  and exists (
    select 1 from aggregates as a
    where a.aggregate_type = outbox.aggregate_type and a.aggregate_id = outbox.aggregate_id
      and a.instance = outbox.instance and a.lease_token = :token);

-- name: renew
update aggregates set due_at = :until
where aggregate_type = :aggregate_type and aggregate_id = :aggregate_id and instance = :instance
  and lease_token = :token;

-- name: release
update aggregates
set lease_token = null,
    due_at = (
        select p.next_attempt_at from outbox as p
        where p.aggregate_type = :aggregate_type and p.aggregate_id = :aggregate_id and p.instance = :instance
          and p.status = 'pending' and p.sequence is not null
        order by p.sequence limit 1)
where aggregate_type = :aggregate_type and aggregate_id = :aggregate_id and instance = :instance
  and lease_token = :token;

-- name: list
select id, instance, aggregate_type, aggregate_id, event_type, sequence, status, attempts, next_attempt_at,
       last_status, last_error, created_at, delivered_at, null
from outbox
where (:status is null or status = :status)
  and (:event_type is null or event_type = :event_type)
  and (:aggregate_type is null or aggregate_type = :aggregate_type)
  and (:aggregate_id is null or aggregate_id = :aggregate_id)
order by position desc
limit :limit;

-- name: show
select id, instance, aggregate_type, aggregate_id, event_type, sequence, status, attempts, next_attempt_at,
       last_status, last_error, created_at, delivered_at, payload
from outbox
where id = :id;

-- name: revive
update outbox set status = 'pending', attempts = 0, first_attempted_at = null, next_attempt_at = :now
where status = 'dead'
  and (:ids is null or id in (select value from json_each(:ids)))
  and (:event_type is null or event_type = :event_type)
returning id, aggregate_type, aggregate_id, instance;

-- name: waken
update aggregates set due_at = :now
where aggregate_type = :aggregate_type and aggregate_id = :aggregate_id and instance = :instance
  and lease_token is null;

-- name: purge
delete from outbox
where status = :status and status in ('delivered', 'dead')
  and coalesce(delivered_at, created_at) < :now - :older_than;

-- name: depth
select count(*) filter (where status = 'pending'), count(*) filter (where status = 'dead'),
       :now - min(created_at) filter (where status = 'pending')
from outbox
where status in ('pending', 'dead');
