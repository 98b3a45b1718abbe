"""Each fault, planted alone in a copy of our project, is found by the rule that is for it, and by no other."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ipai_harness.audit import PROJECT_RULES, Severity

if TYPE_CHECKING:
    from tests.harness.audit.conftest import Copy

Plant = Callable[["Copy"], None]

VERIFY = """
async function check(request: Request): Promise<boolean> {
  const secret = Deno.env.get("IPAI_BRIDGE_SECRET");
  if (!secret) throw new Error("not configured");
  const key = await crypto.subtle.importKey("raw", new TextEncoder().encode(secret), { name: "HMAC", hash: "SHA-256" }, false, ["verify"]);
  return await crypto.subtle.verify("HMAC", key, new Uint8Array(32), new Uint8Array(await request.arrayBuffer()));
}
Deno.serve(async (request) => new Response(null, { status: await check(request) ? 200 : 401 }));
"""
JWT = ".".join(
    base64.urlsafe_b64encode(part.encode()).rstrip(b"=").decode()
    for part in ('{"alg":"HS256","typ":"JWT"}', '{"iss":"supabase","role":"service_role","exp":4100000000}', "s" * 32)
)
ANON_JWT = (
    JWT.split(".")[0] + "." + base64.urlsafe_b64encode(b'{"iss":"supabase","role":"anon"}').decode() + "." + "c" * 43
)
RANDOM = "q7Vx2mZp" + "9LtR4wKs8Bd1"
TABLE = "create table odoo.planted (id bigint primary key);\nalter table odoo.planted enable row level security;\n"
DEFINER = (
    "create function odoo.planted() returns int language sql security definer set search_path = '' as $$ select 1 $$;\n"
)


def function(code: str, *, verify_jwt: bool = False) -> Plant:
    return lambda copy: copy.function(code, verify_jwt=verify_jwt)


def secret_code(reading: str, use: str) -> Plant:
    """A function that verifies well, and has the fault besides."""
    return function(VERIFY.replace("Deno.serve(async (request) =>", f"{reading}\nDeno.serve(async (request) => {use} ?"
                                   " new Response(null, { status: 401 }) :"))  # fmt: skip


def migration(sql: str) -> Plant:
    return lambda copy: copy.migrate(sql)


def toml(old: str, new: str) -> Plant:
    return lambda copy: copy.replace("config.toml", old, new)


def file(path: str, text: str) -> Plant:
    return lambda copy: copy.write(path, text)


def link(target: Path) -> Plant:
    return lambda copy: (copy.root / "functions/_shared/link.ts").symlink_to(target)


def data(path: str, content: bytes) -> Plant:
    def plant(copy: Copy) -> None:
        (copy.root / path).write_bytes(content)

    return plant


REF = "".join(["ublqmilc", "jtpnflofprkr"])
WEBHOOK = "functions/_shared/webhook.ts"
VERIFIES = "const event = await verify(request.headers, body, secrets, around.now());"

PLANTED: list[tuple[str, str, Plant]] = [
    # --- functions
    ("function-open", "a function without any check", function("Deno.serve(() => new Response('ok'));")),
    ("function-open", "the check only in a comment", function("// crypto.subtle.verify(\nDeno.serve(() => new Response());")),
    ("function-open", "the check only in a string", function('Deno.serve(() => new Response("crypto.subtle.verify("));')),
    ("function-open", "the check imported, not called",
     function('import { verify } from "../_shared/verify.ts";\nDeno.serve(() => new Response("ok"));')),
    ("function-open", "the call of verify removed from the receiver",
     lambda copy: copy.replace(WEBHOOK, VERIFIES, "const event = unverified(request.headers);")),
    ("function-verified-twice", "verify_jwt on for the receiver", toml("verify_jwt = false", "verify_jwt = true")),
    ("function-verified-twice", "verify_jwt left to its default", toml("verify_jwt = false\n", "")),
    ("function-undeclared", "a function config.toml does not name",
     file("functions/forgotten/index.ts", "Deno.serve(() => new Response('ok'));")),
    ("function-missing", "a section without a function",
     lambda copy: copy.append("config.toml", "\n[functions.gone]\nverify_jwt = true\n")),
    ("function-request-target", "a URL out of the request",
     function("Deno.serve(async (r) => { const body = await r.json(); return await fetch(body.callback_url); });", verify_jwt=True)),
    ("function-request-target", "a password out of the request",
     function("Deno.serve(async (req) => { const { url, n } = await req.json(); return new Response(createClient(url, n)); });",
              verify_jwt=True)),
    # --- a secret's absence
    ("secret-default", "?? with the empty string", secret_code('const token = Deno.env.get("SYNC_TOKEN") ?? "";', "token.length > 9")),
    ("secret-default", "|| with a word", secret_code('const token = Deno.env.get("SYNC_TOKEN") || "dev";', "token.length > 9")),
    ("secret-default", "our own secret's absence no longer refused",
     lambda copy: copy.replace(WEBHOOK, 'secrets.length === 0 || url === ""', 'url === ""')),
    ("secret-default", "|| with a constant",
     secret_code('const DEFAULT_TOKEN = "dev";\nconst token = Deno.env.get("SYNC_TOKEN") || DEFAULT_TOKEN;', "token.length > 9")),
    ("secret-compared-unset", "a header against a variable that may be unset",
     secret_code('const token = Deno.env.get("SYNC_TOKEN");', 'request.headers.get("x-token") !== token')),
    ("secret-compared-unset", "a header against the environment",
     secret_code("", 'request.headers.get("x-token") !== Deno.env.get("SYNC_TOKEN")')),
    ("secret-compared-unset", "Bearer undefined",
     secret_code("", 'request.headers.get("authorization") !== `Bearer ${Deno.env.get("SYNC_TOKEN")}`')),
    ("secret-check-skipped", "verified only when the secret is there",
     secret_code('const signing = Deno.env.get("SIGNING_SECRET");\n'
                 'async function maybe(r: Request) { if (signing) { await check(r); if (!r) throw new Error("401"); } }', "!maybe(request)")),
    ("secret-check-skipped", "verified only when the environment has it",
     secret_code('async function maybe(r: Request) { if (Deno.env.get("SIGNING_SECRET")) { await check(r); if (!r) throw new Error("401"); } }',
                 "!maybe(request)")),
    ("signature-timing", "=== on a signature",
     secret_code("const signature = 'a', expectedSignature = 'b';", "signature !== expectedSignature")),
    # --- secrets in files
    ("secret-in-file", "a service key in a script", file("functions/_shared/key.ts", f'export const key = "{JWT}";\n')),
    ("secret-in-file", "a service key in a comment of SQL", migration(f"-- {JWT}\nselect 1;")),
    ("secret-in-file", "a new-style secret key", file("functions/_shared/key.ts", f'const k = "sb_secret_{RANDOM}";\n')),
    ("secret-in-file", "a webhook secret", file("notes.md", f"whsec_{RANDOM}{RANDOM}=\n")),
    ("secret-in-file", "a literal in config.toml", toml('"env(IPAI_BRIDGE_SECRET)"', f'"{RANDOM}"')),
    ("secret-in-file", "a short literal in config.toml", toml('"env(IPAI_BRIDGE_SECRET)"', '"hunter2 is it"')),
    ("secret-in-file", "a database URL", file("seeds.sh", f"psql postgresql://postgres:{RANDOM}@db.internal:5432/postgres\n")),
    ("secret-in-file", "a role's password in SQL", migration("create role reader login password 'hunter2';")),
    ("secret-in-file", "a row of settings",
     migration(f"insert into odoo.settings values ('ipai_bridge.secret', '{RANDOM}');")),
    ("secret-in-file", "a private key", file("key.txt", "-----BEGIN RSA PRIVATE KEY-----\nMII\n")),
    ("secret-in-file", "an assignment in .env", file(".env.local", f"ODOO_PASSWORD={RANDOM}\n")),
    # --- deprecated projects
    ("deprecated-project", "as project_id", toml('project_id = "ipai-bridge"', f'project_id = "{REF}"')),
    ("deprecated-project", "in a URL of SQL", migration(f"select 'https://{REF.upper()}.supabase.co';")),
    ("deprecated-project", "in what the command line tool left", file(".temp/project-ref", REF)),
    ("deprecated-project", "in a file's name", file(f"notes/{REF}.md", "old\n")),
    ("deprecated-project", "in a binary", data("dump.bin", b"\0\1" + REF.encode() + b"\0")),
    # --- config.toml
    ("config-exposed-schema", "auth exposed", toml('"public", "graphql_public"', '"public", "auth"')),
    ("config-exposed-schema", "a closed schema exposed", toml('"public", "graphql_public"', '"public", "closed"')),
    ("config-postgres-version", "PostgreSQL 14", toml("major_version = 15", "major_version = 14")),
    ("config-public-bucket", "a public bucket",
     lambda copy: copy.append("config.toml", "\n[storage.buckets.documents]\npublic = true\n")),
    ("config-anonymous-sign-in", "anonymous sign-ins",
     lambda copy: copy.append("config.toml", "\n[auth]\nenable_anonymous_sign_ins = true\n")),
    # --- migrations
    ("migration-name", "without a timestamp", file("migrations/planted.sql", "select 1;\n")),
    ("migration-name", "a timestamp that is no time", file("migrations/20301301000000_odoo_planted.sql", "select 1;\n")),
    ("migration-name", "in a folder", file("migrations/later/20300101000000_odoo_planted.sql", "select 1;\n")),
    ("migration-duplicate", "a timestamp twice", file("migrations/20260101000200_odoo_again.sql", "select 1;\n")),
    ("migration-order", "used before it is made",
     lambda copy: copy.migrate("create index on odoo.webhook_events (id);", "20250101000000_odoo_early.sql")),
    ("migration-layer", "in no layer", lambda copy: copy.migrate("select 1;", "20300101000000_stuff.sql")),
    ("sql-table-without-rls", "a table", migration("create table odoo.planted (id bigint primary key);")),
    ("sql-table-without-rls", "a table whose security is only in a comment",
     migration("create table odoo.planted (id int); -- alter table odoo.planted enable row level security;")),
    ("sql-table-without-rls", "one table left out of the list",
     lambda copy: copy.replace("migrations/20260101000200_core_events.sql", "'sync_cursors', 'entity_mappings'", "'sync_cursors'")),
    ("sql-rls-disabled", "switched off again", migration("alter table odoo.instances disable row level security;")),
    ("sql-definer-search-path", "not pinned", migration(DEFINER.replace(" set search_path = ''", ""))),
    ("sql-definer-search-path", "pinned only in its body",
     migration(DEFINER.replace(" set search_path = ''", "").replace("select 1", "select 1 -- set search_path = ''\n"))),
    ("sql-definer-executable", "in schema public", migration(DEFINER.replace("odoo.", "public."))),
    ("sql-anon-grant", "a table to anon", migration("grant select on odoo.instances to authenticated, anon;")),
    ("sql-anon-grant", "usage of a schema to PUBLIC", migration("grant usage on schema odoo to public;")),
    ("sql-anon-grant", "in a block", migration("do $$ begin execute 'grant select on odoo.event_log to anon'; end $$;")),
    ("sql-default-privileges", "future tables",
     migration("alter default privileges in schema odoo grant select on tables to authenticated;")),
    ("sql-policy-anon", "to anon", migration("create policy planted on odoo.instances for select to anon using (active);")),
    ("sql-policy-anon", "always true, for everybody", migration("create policy planted on odoo.instances using (true);")),
    ("sql-view-bypasses-rls", "a view in public", migration("create view public.planted as select * from odoo.instances;")),
    ("sql-view-bypasses-rls", "a view that is granted",
     migration("create view odoo.planted as select 1 as one;\ngrant select on odoo.planted to authenticated;")),
    ("sql-extension-in-public", "an extension", migration("create extension if not exists pg_trgm;")),
    ("sql-role-raised", "bypassrls", migration("alter role anon bypassrls;")),
    ("sql-role-raised", "a member of service_role", migration("grant service_role to authenticated;")),
    ("sql-public-bucket", "a public bucket",
     migration("insert into storage.buckets (id, name, public) values ('documents', 'documents', true);")),
    # --- a hostile folder
    ("file-link-outside", "a link to outside", link(Path("/etc/passwd"))),
    ("file-unreadable", "binary where text should be", data("functions/_shared/odd.ts", b"\0\xff\xfe")),
    ("file-unreadable", "not UTF-8", data("functions/_shared/odd.ts", "// é".encode("latin-1"))),
    ("file-unreadable", "a link to itself",
     lambda copy: (copy.root / "loop.ts").symlink_to(copy.root / "loop.ts")),
    ("file-unreadable", "a pipe", lambda copy: os.mkfifo(copy.root / "pipe.sql")),
    ("file-too-large", "a huge file", data("seeds.sql", b"-- row\n" * 700_000)),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "plant"), [(rule, plant) for rule, _, plant in PLANTED],
                         ids=[f"{rule}: {what}" for rule, what, _ in PLANTED])  # fmt: skip
def test_a_planted_fault_is_found_by_its_rule_alone(copy: Copy, rule: str, plant: Plant) -> None:
    plant(copy)

    report = copy.audit()

    assert {finding.rule.id for finding in report.findings} == {rule}, [one.as_json() for one in report.findings]
    assert report.at_least(Severity.WARNING)
    for finding in report.findings:
        assert finding.found.file is not None
        assert finding.where
    printed = json.dumps(report.as_json())
    assert RANDOM not in printed
    assert JWT not in printed


def test_every_rule_has_a_planted_fault() -> None:
    # This one has no text to plant it in: see test_hostile_folder.
    assert {rule.id for rule in PROJECT_RULES} - {rule for rule, _, _ in PLANTED} == {"config-unreadable"}


def test_our_own_project_gives_no_finding(copy: Copy) -> None:
    report = copy.audit()

    assert [finding.as_json() for finding in report.findings] == []
    assert report.allowed == 0


INNOCENT: list[tuple[str, Plant]] = [
    ("a table with its security", migration(TABLE)),
    ("a table secured in a loop over the catalogue",
     migration("create table odoo.planted (id int);\ndo $$ declare t text; begin for t in select tablename from pg_tables where "
               "schemaname = 'odoo' loop execute format('alter table odoo.%I enable row level security', t); end loop; end $$;")),
    ("a temporary table", migration("create temporary table planted (id int);")),
    ("a table that is dropped again", migration("create table odoo.planted (id int);\ndrop table odoo.planted;")),
    ("a table in a function's body",
     migration("create function odoo.f() returns void language plpgsql as $$ begin create table x.y (id int); end $$;")),
    ("a grant in a comment and in a string", migration("-- grant all on x to anon;\nselect 'grant all on x to anon';")),
    ("a revoke", migration("revoke all on odoo.instances from anon, public;")),
    ("a pinned function", migration(DEFINER)),
    ("pinned later", migration(DEFINER.replace(" set search_path = ''", "") + "alter function odoo.planted() set search_path = '';")),
    ("a view with security_invoker",
     migration("create view public.planted with (security_invoker = true) as select 1 as one;")),
    ("a view for nobody", migration("create view odoo.planted as select 1 as one;")),
    ("a policy that asks who", migration("create policy p on odoo.instances to authenticated using (auth.uid() is not null);")),
    ("an extension where it belongs", migration("create extension if not exists pg_trgm with schema extensions;")),
    ("a function that verifies", function(VERIFY)),
    ("a function behind the platform's check", function("Deno.serve(() => new Response('ok'));", verify_jwt=True)),
    ("a function that asks for the user",
     function("Deno.serve(async () => { await supabase.auth.getUser(token); return new Response(); });")),
    ("a secret that is guarded", secret_code('const token = Deno.env.get("SYNC_TOKEN") ?? "";\nif (token === "") throw new Error("x");',
                                             "token.length > 9")),
    ("the platform's own template", function(
        "const supabase = createClient(Deno.env.get('SUPABASE_URL') ?? '', Deno.env.get('SUPABASE_SERVICE_ROLE_KEY') ?? '');\n"
        "Deno.serve(async (req) => new Response(await supabase.from('x').select()));", verify_jwt=True)),
    ("Stripe's check", function(
        "Deno.serve(async (req) => { const body = await req.text(); await stripe.webhooks.constructEventAsync(body, "
        "req.headers.get('Stripe-Signature'), Deno.env.get('STRIPE_WEBHOOK_SIGNING_SECRET')!); return new Response(); });")),
    ("a token that is guarded, and compared", function(
        "const expected = Deno.env.get('SYNC_TOKEN');\nDeno.serve((req) => {\n  if (!expected) return new Response(null, { status: 500 });\n"
        "  if (req.headers.get('x-token') !== expected) return new Response(null, { status: 401 });\n  return new Response();\n});")),
    ("a regular expression with quotes and slashes", function(VERIFY + "\nexport const r = /[\"'`/]/.test('x') ? 1 / 2 : 3;\n// done")),
    ("the platform's own grant", migration("grant usage on schema public to anon, authenticated;")),
    ("a public key", file("functions/_shared/key.ts", f'export const anon = "{ANON_JWT}";\n')),
    ("a password of this machine", file("notes.md", f"postgresql://postgres:{RANDOM}@localhost:5432/postgres\n")),
    ("a placeholder", file(".env.example", "IPAI_BRIDGE_SECRET=change-me-to-something-long-123\n")),
    ("a way back", file("migrations/down/20260101000200_core_events.sql", "drop schema odoo cascade;\n")),
    ("a binary that is an image", data("logo.png", b"\x89PNG\0\0")),
    ("an allowed finding", migration("-- ipai-audit: allow sql-anon-grant because it is a price list\ngrant select on a.b to anon;")),
]  # fmt: skip


@pytest.mark.parametrize("plant", [plant for _, plant in INNOCENT], ids=[what for what, _ in INNOCENT])
def test_what_is_innocent_gives_no_finding(copy: Copy, plant: Plant) -> None:
    plant(copy)

    assert [finding.as_json() for finding in copy.audit().findings] == []


def test_a_finding_names_file_and_line(copy: Copy) -> None:
    copy.migrate("\n-- first\n\n" + TABLE + "\ngrant select on odoo.planted\n  to anon;")

    [finding] = copy.audit().findings

    assert finding.where == "migrations/20300101000000_odoo_planted.sql:7"


def test_what_is_allowed_is_counted_and_only_for_its_rule(copy: Copy) -> None:
    copy.migrate("-- ipai-audit: allow sql-policy-anon because of something else\ngrant select on a.b to anon;")
    copy.migrate("-- ipai-audit: allow sql-anon-grant because it is meant\ngrant select on a.b to anon;",
                 "20300102000000_odoo_b.sql")  # fmt: skip

    report = copy.audit()

    assert [finding.where for finding in report.findings] == ["migrations/20300101000000_odoo_planted.sql:2"]
    assert report.allowed == 1
