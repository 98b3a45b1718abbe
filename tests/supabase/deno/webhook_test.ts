// The handler's order of things, with the database, the clock and the environment made by the test.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { ERROR_CODES, Refusal } from "../../../harness/supabase/functions/_shared/answers.ts";
import { readBody } from "../../../harness/supabase/functions/_shared/body.ts";
import type { Inbox } from "../../../harness/supabase/functions/_shared/db.ts";
import { eventText } from "../../../harness/supabase/functions/_shared/event.ts";
import { webhook } from "../../../harness/supabase/functions/_shared/webhook.ts";

const SECRET = "whsec_0123456789abcdef0123456789abcdef";
const KEY = "0190f3a0-0000-7000-8000-000000000001";
const NOW = 1767225600123;
const URL_ = "http://localhost/odoo-webhook";
const EVENT = { event_type: "a.b", aggregate_type: "a", aggregate_id: "1", payload: {} };

function surroundings(
  inbox: Partial<Inbox> = {},
  env: Record<string, string> = { IPAI_BRIDGE_SECRET: SECRET, SUPABASE_DB_URL: "x" },
) {
  const seen = { calls: [] as string[], log: [] as Record<string, unknown>[], background: [] as Promise<void>[] };
  const handler = webhook("odoo-webhook", {
    env: (name) => env[name],
    now: () => NOW,
    connect: () => ({
      ingest: () => {
        seen.calls.push("ingest");
        return Promise.resolve({ id: "9223372036854775807", duplicate: false });
      },
      process: (id) => {
        seen.calls.push(`process ${id}`);
        return Promise.resolve();
      },
      ...inbox,
    }),
    waitUntil: (work) => seen.background.push(work),
    log: (line) => seen.log.push(line),
  });
  return { handler, seen, env };
}

function request(
  body: BodyInit = JSON.stringify(EVENT),
  headers: Record<string, string> = {},
  init: RequestInit = {},
): Request {
  const signature = createHmac("sha256", SECRET).update(`${NOW}.`)
    .update(typeof body === "string" || body instanceof Uint8Array ? body : "").digest("hex");
  return new Request(URL_, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      "x-ipai-timestamp": `${NOW}`,
      "x-ipai-signature": signature,
      "x-idempotency-key": KEY,
      ...headers,
    },
    body,
    ...init,
  });
}

async function codeOf(response: Response): Promise<string> {
  assert.equal(response.headers.get("x-ipai-contract"), "1");
  assert.equal(response.headers.get("content-type"), "application/json");
  const { ok, error, ...rest } = await response.json();
  assert.deepEqual([ok, Object.keys(rest), Object.keys(error)], [false, [], ["code", "message"]]);
  assert.equal(response.status, ERROR_CODES[error.code as keyof typeof ERROR_CODES][0]);
  return error.code;
}

Deno.test("an event is stored, answered with every digit of its id, and then processed", async () => {
  const { handler, seen } = surroundings();
  const response = await handler(request());
  assert.equal(response.status, 200);
  assert.equal(await response.text(), '{"ok":true,"id":9223372036854775807,"duplicate":false}');
  await Promise.all(seen.background);
  assert.deepEqual(seen.calls, ["ingest", "process 9223372036854775807"]);
});

Deno.test("a duplicate is answered and not processed", async () => {
  const { handler, seen } = surroundings({ ingest: () => Promise.resolve({ id: "7", duplicate: true }) });
  assert.deepEqual(await (await handler(request())).json(), { ok: true, id: 7, duplicate: true });
  assert.equal(seen.background.length, 0);
});

Deno.test("processing that fails is logged, and changes nothing of the answer", async () => {
  const { handler, seen } = surroundings({
    process: () => Promise.reject(Object.assign(new Error("s3cret"), { code: "57P01" })),
  });
  assert.equal((await handler(request())).status, 200);
  await Promise.all(seen.background);
  assert.deepEqual(seen.log, [{
    level: "error",
    event: "processing_failed",
    id: "9223372036854775807",
    state: "57P01",
  }]);
});

Deno.test("without configuration it is closed, and it opens as soon as there is one", async () => {
  const { handler, env } = surroundings({}, {});
  assert.equal(await codeOf(await handler(request())), "not_configured");
  env["IPAI_BRIDGE_SECRET"] = SECRET;
  assert.equal(await codeOf(await handler(request())), "not_configured");
  env["SUPABASE_DB_URL"] = "x";
  assert.equal((await handler(request())).status, 200);
  env["IPAI_BRIDGE_SECRET"] = "short";
  assert.equal(await codeOf(await handler(request())), "not_configured");
});

Deno.test("each check comes before the next one", async () => {
  const { handler, env } = surroundings({}, {});
  const big = "x".repeat(1_048_577);
  const steps: [string, Request][] = [
    ["not_found", new Request(URL_ + "/batch", { method: "GET" })],
    ["method_not_allowed", request(big, { "content-type": "text/plain" }, { method: "PUT" })],
    ["unsupported_media_type", request(big, { "content-type": "text/plain" })],
    ["payload_too_large", request(big, { "x-ipai-signature": "?" })],
    ["not_configured", request("{", { "x-ipai-signature": "?" })],
  ];
  for (const [code, sent] of steps) assert.equal(await codeOf(await handler(sent)), code);
  Object.assign(env, { IPAI_BRIDGE_SECRET: SECRET, SUPABASE_DB_URL: "x" });
  assert.equal(await codeOf(await handler(request("{", { "x-ipai-signature": "?" }))), "malformed_signature");
  assert.equal(await codeOf(await handler(request("{", { "x-ipai-signature": "0".repeat(64) }))), "bad_signature");
  assert.equal(await codeOf(await handler(request("{", { "x-idempotency-key": "?" }))), "malformed_idempotency_key");
  assert.equal(await codeOf(await handler(request("{"))), "invalid_json");
});

Deno.test("405 says what is allowed", async () => {
  for (const method of ["GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"]) {
    const response = await surroundings().handler(new Request(URL_, { method }));
    assert.equal(response.status, 405);
    assert.equal(response.headers.get("allow"), "POST");
    await response.body?.cancel();
  }
});

Deno.test("content types", async () => {
  for (
    const good of [
      "application/json",
      "Application/JSON",
      "application/json; charset=utf-8",
      'application/json;charset="UTF-8"',
    ]
  ) {
    assert.equal((await surroundings().handler(request(undefined, { "content-type": good }))).status, 200, good);
  }
  for (
    const bad of [
      "text/json",
      "application/json; charset=latin-1",
      "application/jsonp",
      "application/json, application/json",
      "",
      "application/json;;",
    ]
  ) {
    assert.equal(
      await codeOf(await surroundings().handler(request(undefined, { "content-type": bad }))),
      "unsupported_media_type",
      bad,
    );
  }
});

Deno.test("every refusal is logged with its code, and with nothing that was sent", async () => {
  const { handler, seen } = surroundings();
  await handler(request('{"event_type":"leak-me"}', { "x-idempotency-key": KEY }));
  await handler(request(undefined, { "x-ipai-signature": "0".repeat(64) }));
  assert.deepEqual(seen.log, [
    { level: "warning", event: "refused", code: "invalid_event" },
    { level: "warning", event: "refused", code: "bad_signature" },
  ]);
});

Deno.test("a fault nobody thought of is a 503, and its text goes nowhere", async () => {
  const { handler, seen } = surroundings({ ingest: () => Promise.reject(new TypeError(SECRET)) });
  const response = await handler(request());
  assert.equal(response.headers.get("retry-after"), "5");
  assert.equal(await codeOf(response), "database_unavailable");
  assert.ok(!JSON.stringify(seen.log).includes(SECRET));
});

// ------------------------------------------------------------------------------------------------------ the body

function stream(chunks: Uint8Array[], end: "close" | "hang" | "fail" = "close") {
  const state = { cancelled: false };
  const body = new ReadableStream<Uint8Array>({
    pull(controller) {
      const chunk = chunks.shift();
      if (chunk) controller.enqueue(chunk);
      else if (end === "close") controller.close();
      else if (end === "fail") controller.error(new Error("connection reset"));
    },
    cancel() {
      state.cancelled = true;
    },
  }, { highWaterMark: 0 });
  return { state, request: new Request(URL_, { method: "POST", body }) };
}

Deno.test("the limit counts what comes, not what is declared", async () => {
  const exact = stream([new Uint8Array(6), new Uint8Array(4)]);
  assert.equal((await readBody(exact.request, 10)).byteLength, 10);
  const over = stream([new Uint8Array(6), new Uint8Array(5), new Uint8Array(1000)]);
  await assert.rejects(readBody(over.request, 10), { code: "payload_too_large" });
  assert.ok(over.state.cancelled);
});

Deno.test("a body that never ends, and one that breaks off", async () => {
  await assert.rejects(readBody(stream([new Uint8Array(1)], "hang").request, 10, 20), { code: "body_timeout" });
  await assert.rejects(readBody(stream([new Uint8Array(1)], "fail").request, 10), { code: "body_incomplete" });
});

Deno.test("no body at all is an empty one", async () => {
  assert.equal((await readBody(new Request(URL_, { method: "POST" }))).byteLength, 0);
});

// ----------------------------------------------------------------------------------------------------- the event

const bytes = (text: string) => new TextEncoder().encode(text);

Deno.test("the event's text is the body's, to the byte", () => {
  const text =
    ' {"payload":{"n":1.10,"u":"Peñaranda – 株式会社 😀"},"event_type":"a.b","aggregate_type":"x_custom","aggregate_id":"é"}\n';
  assert.equal(eventText(bytes(text)), text);
});

Deno.test("what is not an event", () => {
  const deep = "[".repeat(100_000) + "]".repeat(100_000);
  const cases: [string, string | Uint8Array][] = [
    ["invalid_utf8", new Uint8Array([0xff, 0xfe])],
    ["invalid_utf8", new Uint8Array([0xef, 0xbb, 0xbf, ...bytes(JSON.stringify(EVENT))])],
    ["invalid_utf8", new Uint8Array([...bytes('{"a":"'), 0xed, 0xa0, 0x80, ...bytes('"}')])],
    ["invalid_json", ""],
    ["invalid_json", "NaN"],
    ["invalid_json", JSON.stringify(EVENT) + "x"],
    ["invalid_event", "null"],
    ["invalid_event", "[]"],
    ["invalid_event", '"a"'],
    ["invalid_event", deep],
    ["invalid_event", "{}"],
    ["invalid_event", JSON.stringify({ ...EVENT, more: 1 })],
    ["invalid_event", JSON.stringify({ ...EVENT, payload: [] })],
    ["invalid_event", JSON.stringify({ ...EVENT, payload: null })],
    ["invalid_event", JSON.stringify(EVENT).replace("{}", '{"n":[-1e999]}')],
    ...["", "a", "A.b", "a.B", "a..b", ".a.b", "a.b.", "a.b\n", "1a.b", "a.b" + "c".repeat(200), 7].map((event_type) =>
      ["invalid_event", JSON.stringify({ ...EVENT, event_type })] as [string, string]
    ),
    ...["", "A", "a.", "a b", "a-b", "1a", "a".repeat(201), null].map((aggregate_type) =>
      ["invalid_event", JSON.stringify({ ...EVENT, aggregate_type })] as [string, string]
    ),
    ...["", 42, "a\u0000", "a\n", "\u0085", "\ud800", "x".repeat(201)].map((aggregate_id) =>
      ["invalid_event", JSON.stringify({ ...EVENT, aggregate_id })] as [string, string]
    ),
  ];
  for (const [code, body] of cases) {
    const sent = typeof body === "string" ? bytes(body) : body;
    assert.throws(
      () => eventText(sent),
      (error) => error instanceof Refusal && error.code === code,
      JSON.stringify(body).slice(0, 80),
    );
  }
});

Deno.test("200 characters are counted as people do", () => {
  eventText(bytes(JSON.stringify({ ...EVENT, aggregate_id: "😀".repeat(200) })));
  assert.throws(() => eventText(bytes(JSON.stringify({ ...EVENT, aggregate_id: "😀".repeat(201) }))));
});
