/**
 * Whether a request is what it claims to be. Reads no clock and no environment: both are arguments.
 *
 * - `x-ipai-signature`: HMAC-SHA256(secret, timestamp + "." + raw body), lower-case hex; the key is the secret's text in UTF-8.
 * - Standard Webhooks (`webhook-id`, `webhook-timestamp`, `webhook-signature`), demanded as soon as one of the three is there:
 *   `v1,` + base64 of HMAC-SHA256(key, id + "." + timestamp + "." + raw body); the key is what follows `whsec_`, decoded.
 *
 * All comparisons are crypto.subtle.verify's, which takes the same time wherever the difference is.
 */

import { Refusal } from "./answers.ts";

export const WINDOW_MS = 5 * 60 * 1000;
/** A shorter secret could be guessed; the sender refuses it, too. */
export const MIN_SECRET_BYTES = 24;
export const DEFAULT_INSTANCE = "default";
const MAX_WEBHOOK_SIGNATURES = 16;
const MAX_INT64 = 9223372036854775807n;

const utf8 = new TextEncoder();

export interface Secret {
  readonly key: CryptoKey;
  /** Null for a secret that is not whsec_ + base64. */
  readonly webhookKey: CryptoKey | null;
}

export interface Verified {
  readonly signature: string;
  readonly signedAt: Date;
  readonly idempotencyKey: string;
  readonly instance: string;
  /** Decimal digits: a 64-bit integer does not fit into a JavaScript number. */
  readonly sequence: string | null;
}

/** The active secrets of a setting: separated by whitespace or commas. Too short ones are left out. */
export async function parseSecrets(setting: string): Promise<Secret[]> {
  const texts = setting.split(/[\s,]+/).filter((text) => utf8.encode(text).byteLength >= MIN_SECRET_BYTES);
  return await Promise.all(texts.map(async (text) => {
    const decoded = text.startsWith("whsec_") ? decodeBase64(text.slice("whsec_".length)) : null;
    return {
      key: await importKey(utf8.encode(text)),
      webhookKey: decoded !== null && decoded.byteLength > 0 ? await importKey(decoded) : null,
    };
  }));
}

/** What the headers say, once they are proved. Throws a `Refusal`, and nothing else. */
export async function verify(
  headers: Headers,
  body: Uint8Array<ArrayBuffer>,
  secrets: readonly Secret[],
  now: number,
): Promise<Verified> {
  const timestamp = headers.get("x-ipai-timestamp");
  const signature = headers.get("x-ipai-signature");
  if (timestamp === null || signature === null) throw new Refusal("missing_signature");
  // A header that came twice is joined by ", " and fits none of these forms.
  if (!/^[0-9]{1,16}$/.test(timestamp)) throw new Refusal("malformed_timestamp");
  if (!/^[0-9a-f]{64}$/.test(signature)) throw new Refusal("malformed_signature");
  const signedAt = timestamp.length < 12 ? Number(timestamp) * 1000 : Number(timestamp);
  if (Math.abs(now - signedAt) > WINDOW_MS) throw new Refusal("stale_timestamp");
  const keys = secrets.map((secret) => secret.key);
  if (!await anyMatch(keys, [decodeHex(signature)], signedBytes([timestamp], body))) throw new Refusal("bad_signature");

  const verified = {
    signature,
    signedAt: new Date(signedAt),
    idempotencyKey: idempotencyKey(headers),
    instance: instance(headers),
    sequence: sequence(headers),
  };
  await verifyStandardWebhook(headers, body, secrets, now, verified.idempotencyKey);
  return verified;
}

async function verifyStandardWebhook(
  headers: Headers,
  body: Uint8Array<ArrayBuffer>,
  secrets: readonly Secret[],
  now: number,
  key: string,
): Promise<void> {
  const id = headers.get("webhook-id");
  const timestamp = headers.get("webhook-timestamp");
  const list = headers.get("webhook-signature");
  if (id === null && timestamp === null && list === null) return;
  if (id === null || timestamp === null || list === null || list.includes(", ") || !/^[0-9]{1,11}$/.test(timestamp)) {
    throw new Refusal("malformed_webhook_headers");
  }
  // As it was signed: an id in upper case is not the same bytes, but it is the same UUID.
  if (id.toLowerCase() !== key) throw new Refusal("webhook_id_mismatch");
  if (Math.abs(now - Number(timestamp) * 1000) > WINDOW_MS) throw new Refusal("stale_timestamp");

  const entries = list.split(" ").filter((entry) => entry !== "");
  if (entries.length > MAX_WEBHOOK_SIGNATURES) throw new Refusal("malformed_webhook_headers");
  // Entries of other versions, and malformed ones, are not ours to judge: one good one is enough.
  const signatures = entries
    .map((entry) => entry.startsWith("v1,") ? decodeBase64(entry.slice("v1,".length)) : null)
    .filter((bytes) => bytes !== null && bytes.byteLength === 32) as Uint8Array<ArrayBuffer>[];
  const keys = secrets.map((secret) => secret.webhookKey).filter((webhookKey) => webhookKey !== null);
  if (!await anyMatch(keys, signatures, signedBytes([id, timestamp], body))) throw new Refusal("bad_webhook_signature");
}

function idempotencyKey(headers: Headers): string {
  const value = headers.get("x-idempotency-key");
  if (value === null) throw new Refusal("missing_idempotency_key");
  if (!/^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$/.test(value)) {
    throw new Refusal("malformed_idempotency_key");
  }
  return value.toLowerCase();
}

function instance(headers: Headers): string {
  const value = headers.get("x-ipai-instance");
  if (value === null) return DEFAULT_INSTANCE;
  if (!/^[a-z0-9][a-z0-9_-]{0,62}$/.test(value)) throw new Refusal("malformed_instance");
  return value;
}

function sequence(headers: Headers): string | null {
  const value = headers.get("x-ipai-sequence");
  if (value === null) return null;
  if (!/^[1-9][0-9]{0,18}$/.test(value) || BigInt(value) > MAX_INT64) throw new Refusal("malformed_sequence");
  return value;
}

async function anyMatch(
  keys: readonly CryptoKey[],
  signatures: readonly Uint8Array<ArrayBuffer>[],
  data: Uint8Array<ArrayBuffer>,
): Promise<boolean> {
  for (const key of keys) {
    for (const signature of signatures) {
      if (await crypto.subtle.verify("HMAC", key, signature, data)) return true;
    }
  }
  return false;
}

function signedBytes(parts: readonly string[], body: Uint8Array): Uint8Array<ArrayBuffer> {
  const prefix = utf8.encode(parts.join(".") + ".");
  const data = new Uint8Array(prefix.byteLength + body.byteLength);
  data.set(prefix);
  data.set(body, prefix.byteLength);
  return data;
}

async function importKey(bytes: Uint8Array<ArrayBuffer>): Promise<CryptoKey> {
  return await crypto.subtle.importKey("raw", bytes, { name: "HMAC", hash: "SHA-256" }, false, ["verify"]);
}

function decodeHex(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

/** Null where the text is not base64 in its standard alphabet, with padding. */
function decodeBase64(text: string): Uint8Array<ArrayBuffer> | null {
  if (text.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(text)) return null;
  try {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  } catch {
    return null;
  }
}
