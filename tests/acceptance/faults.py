"""The faults that the acceptance suite must notice: what a hurried colleague might do to any part of the project."""

from __future__ import annotations

from tests.acceptance.planting import Edit, Fault

_MIGRATIONS = "harness/supabase/migrations/20260101000"
_SHARED = "harness/supabase/functions/_shared/"
EVENTS = f"{_MIGRATIONS}200_core_events.sql"
INGEST = f"{_MIGRATIONS}210_core_ingest.sql"
CATALOG = f"{_MIGRATIONS}221_core_catalog_actions.sql"
PROCESS = f"{_MIGRATIONS}400_engine_process.sql"
RUNS = f"{_MIGRATIONS}500_odoo_sync_runs.sql"
MODULES = f"{_MIGRATIONS}510_odoo_modules.sql"
SHADOW = f"{_MIGRATIONS}520_odoo_shadow.sql"
MODELS = f"{_MIGRATIONS}530_odoo_catalog.sql"
CLEANUP = f"{_MIGRATIONS}700_cleanup_check.sql"
VERIFY = f"{_SHARED}verify.ts"
EMIT = "        postgres.emit(env.cr, events)\n"


def _one(name: str, select: str, file: str, old: str, new: str) -> Fault:
    return Fault(name, select, [Edit(file, old, new)])


# fmt: off
FAULTS = [
    # --- the library
    _one(
        "emit commits by itself", "refused_after_its_event", "ipai_bridge/bridge.py", EMIT, EMIT + "        env.cr.commit()\n"
    ),
    _one(
        "emit outside the transaction", "part_of_the_act_is_taken_back", "ipai_bridge/bridge.py", EMIT,
        "        with env.registry.cursor() as own:\n            postgres.emit(own, events)\n",
    ),
    _one(
        "emit waits for something", "do_not_notice_that_supabase_is_down", "ipai_bridge/bridge.py", EMIT,
        EMIT + "        time.sleep(6)\n",
    ),
    _one(
        "order broken", "while_people_work or failures_and_two_relays", "ipai_bridge/outbox/postgres.sql",
        "order by mine.aggregate_type, mine.aggregate_id, mine.instance, o.sequence;",
        "order by mine.aggregate_type, mine.aggregate_id, mine.instance, o.sequence desc;",
    ),
    _one(
        "no answer is taken for a refusal", "while_people_work", "ipai_bridge/delivery/retry.py",
        "    if status == 410:\n", "    if status is None:\n        return Decision(Verdict.DEAD)\n    if status == 410:\n",
    ),
    _one(
        "settled as delivered whatever the answer", "given_up or refuses_for_good", "ipai_bridge/delivery/retry.py",
        "    if status is not None and 200 <= status < 300:\n", "    if status is not None:\n",
    ),
    _one(
        "signed when it was emitted, not afresh", "waited_for_an_hour", "ipai_bridge/delivery/transport.py",
        "            timestamp_ms=timestamp_ms,\n", "            timestamp_ms=round(claimed.created_at.timestamp() * 1000),\n",
    ),
    Fault(
        "redirect followed", "redirect_is_never", [
            Edit(
                "ipai_bridge/delivery/session.py",
                "    def get_redirect_target(self, resp: requests.Response) -> str | None:  # noqa: ARG002\n"
                "        return None\n",
                "    pass\n",
            ),
            Edit("ipai_bridge/delivery/transport.py", "allow_redirects=False", "allow_redirects=True"),
        ],
    ),
    _one(
        "secret in a log", "no_log_and_no_table", "ipai_bridge/delivery/transport.py",
        "        posts = 1\n",
        '        posts = 1\n        print("signing with", self._secret.reveal(), flush=True)\n',
    ),
    _one(
        "secret kept in the outbox", "no_log_and_no_table", "ipai_bridge/delivery/transport.py",
        "        for value in filter(None, (self._secret.reveal(), headers[SIGNATURE], standard)):\n"
        '            text = text.replace(value, "[redacted]")\n        return text\n',
        "        return f\"{text} (signed with {self._secret.reveal()})\"\n",
    ),
    _one(
        "purge takes what is pending", "throws_away", "ipai_bridge/outbox/postgres.sql",
        "where status = %(status)s and status in ('delivered', 'dead')\n", "where true\n",
    ),
    _one(
        "a deprecated project is let through", "deprecated", "ipai_bridge/endpoint.py",
        'frozenset({"xkxyvoboeubffxxbebsll", "ublqmilcjtpnflofprkr"})', 'frozenset({"xkxyvoboeubffxxbebsll"})',
    ),
    _one(
        "the shadow skips what is archived", "stays_in_the_shadow", "ipai_bridge/sync/source.py",
        '"active_test": False', '"active_test": True',
    ),
    _one(
        "one page and no more", "more_records_than_one_page", "ipai_bridge/sync/source.py",
        "        if upto is None:\n            return\n", "        return\n",
    ),
    _one(
        "an interrupted sync is not told of", "cut_off_does_not_look", "ipai_bridge/sync/run.py",
        "                run.finish({}, failed=reason)\n", "                pass\n",
    ),
    # --- the functions
    _one(
        "signature check off", "altered", VERIFY,
        "  if (!await anyMatch(keys, [decodeHex(signature)], signedBytes([timestamp], body)))",
        "  if (keys.length === 0)",
    ),
    _one(
        "window of 50 minutes", "stale_timestamp", VERIFY,
        "WINDOW_MS = 5 * 60 * 1000", "WINDOW_MS = 50 * 60 * 1000",
    ),
    Fault(
        "timestamps of the future are taken", "ahead", [
            Edit(VERIFY, "  if (Math.abs(now - signedAt) > WINDOW_MS)", "  if (now - signedAt > WINDOW_MS)"),
            Edit(
                VERIFY, "  if (Math.abs(now - Number(timestamp) * 1000) > WINDOW_MS)",
                "  if (now - Number(timestamp) * 1000 > WINDOW_MS)",
            ),
        ],
    ),
    _one(
        "constant-time comparison replaced", "audit_finds_nothing", VERIFY,
        '      if (await crypto.subtle.verify("HMAC", key, signature, data)) return true;\n',
        '      const expectedSignature = new Uint8Array(await crypto.subtle.sign("HMAC", key, data)).join();\n'
        "      const givenSignature = signature.join();\n"
        "      if (givenSignature === expectedSignature) return true;\n",
    ),
    _one(
        "Standard Webhooks headers not checked", "webhook_id_mismatch or bad_webhook_signature", VERIFY,
        "  await verifyStandardWebhook(headers, body, secrets, now, verified.idempotencyKey);\n", "",
    ),
    _one(
        "the event is parsed and written anew", "keep_their_precision", f"{_SHARED}event.ts",
        "  requireFinite(payload);\n  return text;", "  requireFinite(payload);\n  return JSON.stringify(event);",
    ),
    _one(
        "no limit to the body", "payload_too_large", f"{_SHARED}body.ts", "MAX_BODY = 1_048_576", "MAX_BODY = 104_857_600"
    ),
    # --- the receiver's SQL
    Fault(
        "dedupe off", "sent_twice or ten_times_at_once", [
            Edit(
                INGEST,
                "  where e.instance_id = v_instance.id and e.idempotency_key = p_idempotency_key;\n  if found then\n",
                "  where false;\n  if found then\n",
            ),
            Edit(INGEST, "(v_instance.id, p_idempotency_key, p_sequence, v_body", "(v_instance.id, gen_random_uuid(), p_sequence, v_body"),
        ],
    ),
    Fault(
        "audit row per delivery", "sent_twice or ten_times_at_once", [
            Edit(EVENTS, "  event_id bigint not null unique,\n", "  event_id bigint not null,\n"),
            Edit(
                INGEST, "  if found then\n    return query select v_event_id, true, 'duplicate';\n",
                "  if found then\n    insert into odoo.event_log\n"
                "      (event_id, instance_id, idempotency_key, event_type, aggregate_type, aggregate_id)\n"
                "    select e.id, e.instance_id, e.idempotency_key, e.event_type, e.aggregate_type, e.aggregate_id\n"
                "    from odoo.webhook_events e where e.id = v_event_id;\n"
                "    return query select v_event_id, true, 'duplicate';\n",
            ),
        ],
    ),
    _one(
        "a captured request may be sent again", "captured", INGEST,
        "    if v_seen.instance is distinct from p_instance or v_seen.idempotency_key is distinct from p_idempotency_key then\n",
        "    if false then\n",
    ),
    _one(
        "an inactive Odoo is let in", "refuses_for_good", INGEST, "  if not v_instance.active then\n", "  if false then\n"
    ),
    _one(
        "what comes late overwrites what is newer", "comes_late", PROCESS,
        "      if v_event.sequence < v_applied.sequence\n", "      if false and v_event.sequence < v_applied.sequence\n",
    ),
    _one(
        "a failed event is not tried again", "fails_and_then_works", PROCESS,
        "          next_retry_at = clock_timestamp() + odoo.retry_delay(e.retry_count + 1)\n",
        "          next_retry_at = null\n",
    ),
    _one(
        "a consumer that died keeps its event", "consumer_that_took", PROCESS,
        "        or (e.status = 'processing' and e.processing_since < clock_timestamp() - interval '5 minutes'))\n",
        "        )\n",
    ),
    _one(
        "the log can be rewritten", "log_cannot_be_rewritten", EVENTS,
        "create trigger append_only before update or delete or truncate on odoo.event_log\n",
        "create trigger append_only before truncate on odoo.event_log\n",
    ),
    _one(
        "RLS off on one table", "row_level_security or audit_finds_nothing", CLEANUP,
        "    raise exception 'this must not go in: %', v_found using hint = 'Correct the migration that made it.';\n"
        "  end if;\n",
        "    null;\n  end if;\n  alter table odoo.modules disable row level security;\n",
    ),
    # --- the syncs' SQL
    _one(
        "what was deleted in Odoo is kept", "deleted_leaves_the_shadow", SHADOW,
        "      delete from odoo_seed.shadow_tasks s\n      where s.instance_id",
        "      delete from odoo_seed.shadow_tasks s\n      where false and s.instance_id",
    ),
    _one(
        "the drift view ignores NULL", "plan_without_a_name", SHADOW,
        "    d.seed_id is not null and d.name is distinct from s.name as differs_from_seed,\n",
        "    d.seed_id is not null and d.name <> s.name as differs_from_seed,\n",
    ),
    _one(
        "a copy doubles what is planned", "copy_that_brings", SHADOW,
        "  where d.seed_id is null or s.odoo_id <> s.reference_odoo_id;\n", "  where d.seed_id is null;\n",
    ),
    _one(
        "two runs may cross", "two_runs_at_once", RUNS,
        "      verdict := 'run_in_progress';\n      return;\n", "      null;\n",
    ),
    _one(
        "an uninstalled module is not marked", "uninstalled_is_marked", MODULES,
        "          when m.state in ('installed', 'to upgrade', 'to remove') then excluded.last_seen\n", "",
    ),
    _one(
        "an Enterprise licence is not reported", "enterprise_licence", RUNS,
        "m.source = 'enterprise' and m.state in", "m.source = 'none' and m.state in",
    ),
    # --- who may see what
    _one(
        "whoever is signed in hears of events", "somebody_without_a_permission or reads_nothing", f"{_MIGRATIONS}540_odoo_realtime.sql",
        "create policy events_readers on odoo.webhook_events for select to authenticated\n  using ((select access.permits('events:read')));\n",
        "create policy events_readers on odoo.webhook_events for select to authenticated\n  using (true);\n",
    ),
    _one(
        "whoever is signed in reads tax forms", "reads_a_form", f"{_MIGRATIONS}300_erp_documents.sql",
        "    using (bucket_id = 'documents' and (select access.permits('documents:read')))$policy$;\n",
        "    using (bucket_id = 'documents')$policy$;\n",
    ),
    # --- the catalog
    _one(
        "a removed model stays active", "makes_renames_and_removes", MODELS,
        "    update catalog.assets a set archived_at = clock_timestamp(), updated_at = clock_timestamp()\n"
        "    where a.instance_id = p_instance_id and a.origin = 'odoo' and a.archived_at is null\n",
        "    update catalog.assets a set updated_at = clock_timestamp()\n"
        "    where a.instance_id = p_instance_id and a.origin = 'odoo' and a.archived_at is null\n",
    ),
    _one(
        "every sync writes everything", "second_sync", CATALOG,
        "    where (a.type, a.title, a.metadata, a.origin, a.instance_id, a.odoo_id, a.archived_at)\n"
        "      is distinct from (excluded.type, excluded.title, excluded.metadata, excluded.origin, "
        "excluded.instance_id, excluded.odoo_id, null)\n",
        "",
    ),
    _one(
        "everything is permitted", "nothing_is_permitted or was_granted", CATALOG,
        "    'allowed', x.reason = 'granted',\n", "    'allowed', true,\n",
    ),
    _one(
        "nothing writes lineage", "from_the_model_to", MODELS,
        "    select m.fqdn as from_fqdn, v_prefix || t.event_type as to_fqdn, 'emits' as kind, '{}'::jsonb as details\n"
        "    from catalog.event_types(p_instance_id) t join model m on m.model = t.aggregate_type\n",
        "    select m.fqdn as from_fqdn, v_prefix || t.event_type as to_fqdn, 'emits' as kind, '{}'::jsonb as details\n"
        "    from catalog.event_types(p_instance_id) t join model m on false\n",
    ),
]
# fmt: on
