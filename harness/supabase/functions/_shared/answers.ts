/** Every answer a signed endpoint gives, in one place: the codes are part of the contract and never change. */

/** Tells a client that the function itself answered, and not the platform's gateway in front of it. */
export const CONTRACT_HEADER = "x-ipai-contract";
export const CONTRACT = "1";

const ERRORS = {
  // What it is not for.
  not_found: [404, "there is nothing at this path"],
  method_not_allowed: [405, "only POST is taken here"],
  unsupported_media_type: [415, "the content type must be application/json, in UTF-8"],
  // The body as bytes.
  payload_too_large: [413, "the body is larger than 1048576 bytes"],
  body_timeout: [408, "the body did not arrive within 30 seconds"],
  body_incomplete: [400, "the body ended early"],
  // This side.
  not_configured: [500, "the receiver has no usable secret or no database: set IPAI_BRIDGE_SECRET and SUPABASE_DB_URL"],
  database_unavailable: [503, "the event could not be stored now: send it again later"],
  // Who sent it.
  missing_signature: [401, "x-ipai-timestamp and x-ipai-signature are required"],
  malformed_timestamp: [401, "x-ipai-timestamp must be 1 to 16 decimal digits"],
  malformed_signature: [401, "x-ipai-signature must be 64 lower-case hexadecimal digits"],
  stale_timestamp: [401, "the timestamp is more than 5 minutes away from this side's clock"],
  bad_signature: [401, "x-ipai-signature does not match the body with any active secret"],
  malformed_webhook_headers: [
    401,
    "webhook-id, webhook-timestamp and webhook-signature must come together, each once and well formed",
  ],
  webhook_id_mismatch: [401, "webhook-id and x-idempotency-key differ"],
  bad_webhook_signature: [401, "webhook-signature does not match the body with any active secret"],
  replayed_signature: [401, "this signature was accepted before under another idempotency key or instance"],
  instance_inactive: [403, "events of this instance are not taken: it is marked inactive in odoo.instances"],
  // What it says.
  missing_idempotency_key: [400, "x-idempotency-key is required"],
  malformed_idempotency_key: [400, "x-idempotency-key must be a UUID"],
  malformed_instance: [
    400,
    "x-ipai-instance must be 1 to 63 of a-z, 0-9, '_' and '-', and begin with a letter or digit",
  ],
  malformed_sequence: [400, "x-ipai-sequence must be a positive 64-bit integer"],
  invalid_utf8: [400, "the body is not UTF-8, or begins with a byte order mark"],
  invalid_json: [400, "the body is not JSON"],
  invalid_event: [400, "the body is not an event"],
  // Realtime.
  invalid_action: [400, 'the body must be {"action":"status"} or {"action":"broadcast"}'],
  realtime_refused: [424, "Realtime refused the broadcast: the cursor stays where it was"],
  realtime_unavailable: [
    503,
    "Realtime did not take the broadcast now: the cursor stays where it was; send it again later",
  ],
  // A page of a sync. Sending it again as it is would not help, so each is a 4xx.
  invalid_page: [400, "the body is not a request of this sync: begin, page, ids, stored or finish"],
  page_out_of_order: [409, "the page does not begin where the one before it ended: begin a new run"],
  unknown_run: [409, "there is no run of this id: begin one"],
  run_ended: [409, "the run has ended, or another one took its place: begin a new run"],
  run_in_progress: [
    409,
    "another run of this sync is under way: wait for its end, or for 5 minutes without a word of it, or take over",
  ],
  // The catalog's actions.
  unknown_action: [
    400,
    "action must be sync_odoo_models, sync_scout_views, register_asset, search_assets, get_tools, get_lineage or check_permission",
  ],
  invalid_request: [400, "the body is not a request of this action"],
  invalid_fqdn: [400, "fqdn must be system.db.model: three parts or more of a-z, 0-9 and '_', joined by dots"],
  asset_reserved: [409, "assets of the systems odoo, event, scout and supabase are registered by their syncs alone"],
  unknown_asset: [404, "there is no active asset of this name in the catalog"],
  // The storage, where documents go.
  storage_refused: [409, "the storage gives no leave to upload: is the private bucket documents there?"],
  storage_unavailable: [503, "the storage does not answer now: send it again later"],
} as const satisfies Record<string, readonly [number, string]>;

export type ErrorCode = keyof typeof ERRORS;

/** The status and the usual text of every code. */
export const ERROR_CODES: Readonly<Record<ErrorCode, readonly [number, string]>> = ERRORS;

/** A request that is not taken. `detail` replaces the usual text; it never repeats what the request held. */
export class Refusal extends Error {
  constructor(readonly code: ErrorCode, readonly detail?: string) {
    super(code);
  }
}

function json(status: number, body: string, headers: Record<string, string> = {}): Response {
  return new Response(body, {
    status,
    headers: { "content-type": "application/json", [CONTRACT_HEADER]: CONTRACT, ...headers },
  });
}

/** 200. `id` is a 64-bit integer as text: written as a JSON number, it keeps every digit. */
export function accepted(id: string, duplicate: boolean): Response {
  return json(200, `{"ok":true,"id":${id},"duplicate":${duplicate}}`);
}

/** 200, with what SQL answered: the text of a JSON object, passed on with every digit. */
export function answered(object: string): Response {
  return json(200, object === "{}" ? `{"ok":true}` : `{"ok":true,${object.slice(1)}`);
}

export function refused({ code, detail }: Refusal): Response {
  const [status, message] = ERRORS[code];
  const headers: Record<string, string> = {};
  if (code === "method_not_allowed") headers["allow"] = "POST";
  if (status === 503) headers["retry-after"] = "5";
  return json(status, JSON.stringify({ ok: false, error: { code, message: detail ?? message } }), headers);
}
