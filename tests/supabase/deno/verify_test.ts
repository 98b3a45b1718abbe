// Signature checking with the clock as an argument: the shared vectors, the window's edges, rotation, Standard Webhooks.

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createHmac } from "node:crypto";
import { Refusal } from "../../../harness/supabase/functions/_shared/answers.ts";
import { parseSecrets, verify, WINDOW_MS } from "../../../harness/supabase/functions/_shared/verify.ts";

interface Vector {
  name: string;
  secret: string;
  timestamp: string;
  body: string;
  signature: string;
}

const VECTORS: Vector[] = JSON.parse(await Deno.readTextFile(new URL("../../vectors/signing.json", import.meta.url)));
const SECRET = "whsec_0123456789abcdef0123456789abcdef";
const OLD = "whsec_" + Buffer.from("the secret before this one, 32 b").toString("base64");
const KEY = "0190f3a0-0000-7000-8000-000000000001";
const NOW = 1767225600123;
const BODY = bytes('{"event_type":"a.b"}');

function bytes(text: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new TextEncoder().encode(text));
}

function ipai(timestamp: string, body = BODY, secret = SECRET): string {
  return createHmac("sha256", secret).update(`${timestamp}.`).update(body).digest("hex");
}

function standard(id: string, timestamp: string, body = BODY, secret = SECRET): string {
  const key = Buffer.from(secret.slice("whsec_".length), "base64");
  return "v1," + createHmac("sha256", key).update(`${id}.${timestamp}.`).update(body).digest("base64");
}

function signed(changes: Record<string, string | null> = {}, timestamp = String(NOW), secret = SECRET): Headers {
  const headers = new Headers({
    "x-ipai-timestamp": timestamp,
    "x-ipai-signature": ipai(timestamp, BODY, secret),
    "x-idempotency-key": KEY,
  });
  for (const [name, value] of Object.entries(changes)) {
    if (value === null) headers.delete(name);
    else headers.set(name, value);
  }
  return headers;
}

function withStandard(changes: Record<string, string | null> = {}): Headers {
  const seconds = String(Math.floor(NOW / 1000));
  return signed({
    "webhook-id": KEY,
    "webhook-timestamp": seconds,
    "webhook-signature": standard(KEY, seconds),
    ...changes,
  });
}

async function check(headers: Headers, { body = BODY, setting = SECRET, now = NOW } = {}) {
  return await verify(headers, body, await parseSecrets(setting), now);
}

async function refuses(code: string, headers: Headers, options = {}) {
  await assert.rejects(check(headers, options), (error) => {
    assert.ok(error instanceof Refusal, `${error}`);
    assert.equal(error.code, code);
    return true;
  });
}

for (const vector of VECTORS) {
  const now = vector.timestamp.length < 12 ? Number(vector.timestamp) * 1000 : Number(vector.timestamp);
  const headers = () =>
    new Headers({
      "x-ipai-timestamp": vector.timestamp,
      "x-ipai-signature": vector.signature,
      "x-idempotency-key": KEY,
    });
  Deno.test(`vector ${vector.name}: holds`, async () => {
    const verified = await check(headers(), { body: bytes(vector.body), setting: vector.secret, now });
    assert.equal(verified.signedAt.getTime(), now);
    assert.equal(verified.signature, vector.signature);
  });
  Deno.test(`vector ${vector.name}: holds as the second of two active secrets`, async () => {
    await check(headers(), { body: bytes(vector.body), setting: `${OLD}, ${vector.secret}`, now });
  });
  Deno.test(`vector ${vector.name}: one changed byte is refused`, async () => {
    await refuses("bad_signature", headers(), { body: bytes(vector.body + " "), setting: vector.secret, now });
  });
  Deno.test(`vector ${vector.name}: another secret is refused`, async () => {
    await refuses("bad_signature", headers(), { body: bytes(vector.body), setting: OLD, now });
  });
}

Deno.test("both edges of the window are inside, one millisecond more is not", async () => {
  for (const side of [-1, 1]) {
    await check(signed(), { now: NOW + side * WINDOW_MS });
    await refuses("stale_timestamp", signed(), { now: NOW + side * (WINDOW_MS + 1) });
  }
});

Deno.test("eleven digits are seconds, twelve are milliseconds", async () => {
  await check(signed({}, "99999999999"), { now: 99999999999 * 1000 });
  await check(signed({}, "100000000000"), { now: 100000000000 });
});

Deno.test("timestamps of another form are refused", async () => {
  for (
    const bad of [
      "",
      "-1",
      "+1",
      "1.5",
      "1e12",
      "0x10",
      "17672256001230000",
      "१७६७२२५६००१२३",
      "1767225600123, 1767225600123",
    ]
  ) {
    const headers = signed();
    try {
      headers.set("x-ipai-timestamp", bad);
    } catch {
      continue; // Not even a header.
    }
    await refuses("malformed_timestamp", headers);
  }
});

Deno.test("signatures of another form are refused", async () => {
  const good = ipai(String(NOW));
  for (
    const bad of ["", "0".repeat(63), good + "0", good.toUpperCase(), `${good}, ${good}`, `v1,${good}`, "g".repeat(64)]
  ) {
    await refuses(
      bad === good.toUpperCase() && bad === good ? "bad_signature" : "malformed_signature",
      signed({ "x-ipai-signature": bad }),
    );
  }
});

Deno.test("a missing header is named", async () => {
  await refuses("missing_signature", signed({ "x-ipai-signature": null }));
  await refuses("missing_signature", signed({ "x-ipai-timestamp": null }));
  await refuses("missing_idempotency_key", signed({ "x-idempotency-key": null }));
});

Deno.test("the idempotency key is a UUID, and comes out in lower case", async () => {
  assert.equal((await check(signed({ "x-idempotency-key": KEY.toUpperCase() }))).idempotencyKey, KEY);
  for (
    const bad of ["", "42", KEY.replaceAll("-", ""), `{${KEY}}`, `${KEY}, ${KEY}`, KEY + "0", KEY.replace("0", "g")]
  ) {
    await refuses("malformed_idempotency_key", signed({ "x-idempotency-key": bad }));
  }
});

Deno.test("the instance has a default and a form", async () => {
  assert.equal((await check(signed())).instance, "default");
  assert.equal((await check(signed({ "x-ipai-instance": "a_b-1" }))).instance, "a_b-1");
  for (const bad of ["", "A", "-a", "a b", "a".repeat(64), "a, a", "ä"]) {
    await refuses("malformed_instance", signed({ "x-ipai-instance": bad }));
  }
});

Deno.test("the sequence is a positive 64-bit integer, kept to the last digit", async () => {
  assert.equal((await check(signed())).sequence, null);
  assert.equal((await check(signed({ "x-ipai-sequence": "9223372036854775807" }))).sequence, "9223372036854775807");
  for (const bad of ["", "0", "-1", "01", "1.0", "9223372036854775808", "9".repeat(19), "1, 1"]) {
    await refuses("malformed_sequence", signed({ "x-ipai-sequence": bad }));
  }
});

Deno.test("an unsigned request is told nothing about its other headers", async () => {
  await refuses("bad_signature", signed({ "x-ipai-signature": "0".repeat(64), "x-idempotency-key": "?" }));
});

Deno.test("the Standard Webhooks headers hold", async () => {
  await check(withStandard());
});

Deno.test("any of them alone is not enough", async () => {
  for (const name of ["webhook-id", "webhook-timestamp", "webhook-signature"]) {
    await refuses("malformed_webhook_headers", withStandard({ [name]: null }));
  }
});

Deno.test("the two ids agree", async () => {
  const seconds = String(Math.floor(NOW / 1000));
  const other = KEY.replace(/1$/, "2");
  await refuses(
    "webhook_id_mismatch",
    withStandard({ "webhook-id": other, "webhook-signature": standard(other, seconds) }),
  );
  await refuses("webhook_id_mismatch", withStandard({ "x-idempotency-key": other }));
});

Deno.test("the webhook timestamp is inside the window, and signed", async () => {
  const old = String(Math.floor(NOW / 1000) - 301);
  await refuses(
    "stale_timestamp",
    withStandard({ "webhook-timestamp": old, "webhook-signature": standard(KEY, old) }),
  );
  await refuses("bad_webhook_signature", withStandard({ "webhook-timestamp": String(Math.floor(NOW / 1000) - 1) }));
  await refuses("malformed_webhook_headers", withStandard({ "webhook-timestamp": "1.5" }));
});

Deno.test("one good entry of the list is enough, whatever stands beside it", async () => {
  const good = standard(KEY, String(Math.floor(NOW / 1000)));
  for (const list of [`v1,AAAA ${good}`, `v1a,x ${good}`, `v1,%%% v2,y ${good}`, `${good} v1`, `  ${good}  ${good}`]) {
    await check(withStandard({ "webhook-signature": list }));
  }
});

Deno.test("a list without a good entry is refused", async () => {
  const good = standard(KEY, String(Math.floor(NOW / 1000)));
  for (
    const list of [
      "v1,",
      "v1,AAAA",
      "v2" + good.slice(2),
      good.slice(3),
      good.replace("=", ""),
      "v1," + "A".repeat(43) + "=",
    ]
  ) {
    await refuses("bad_webhook_signature", withStandard({ "webhook-signature": list }));
  }
  await refuses("malformed_webhook_headers", withStandard({ "webhook-signature": `${good}, ${good}` }));
  await refuses("malformed_webhook_headers", withStandard({ "webhook-signature": Array(17).fill(good).join(" ") }));
});

Deno.test("a secret of another form cannot vouch for Standard Webhooks headers", async () => {
  const plain = "an existing deployment's secret, of another form";
  await check(signed({}, String(NOW), plain.replaceAll(/[\s,]/g, "_")), { setting: plain.replaceAll(/[\s,]/g, "_") });
  const headers = withStandard({ "x-ipai-signature": ipai(String(NOW), BODY, "x".repeat(24)) });
  await refuses("bad_webhook_signature", headers, { setting: "x".repeat(24) });
});

Deno.test("rotation: each of the active secrets verifies, a retired one does not", async () => {
  const rotating = `${OLD}\n${SECRET}`;
  await check(signed({}, String(NOW), OLD), { setting: rotating });
  await check(signed({}, String(NOW), SECRET), { setting: rotating });
  await refuses("bad_signature", signed({}, String(NOW), OLD), { setting: SECRET });
});

Deno.test("secrets: separated by whitespace or commas, short ones left out", async () => {
  assert.equal((await parseSecrets(`${SECRET},${OLD}\n\t ${"x".repeat(24)}`)).length, 3);
  assert.equal((await parseSecrets(" , short,\n")).length, 0);
  assert.equal((await parseSecrets("")).length, 0);
});
