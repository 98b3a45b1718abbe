/**
 * realtime-sync, a signed request like the others: {"action":"status"} says how Realtime stands, {"action":"broadcast"}
 * sends what changed since the cursor to the private channel odoo-sync. Where to, and with which key, only this
 * function's own environment says. The cursor moves when Realtime has taken the broadcast, and then only.
 */

import { answered, type ErrorCode, Refusal, refused } from "./answers.ts";
import { readBody } from "./body.ts";
import { INGEST_TIMEOUT_MS, open, stateOf, within } from "./db.ts";
import { objectText } from "./event.ts";
import { type Verified, verify } from "./verify.ts";
import { type Configurable, configured, isJson, levelOf } from "./webhook.ts";

export const CHANNEL = "odoo-sync";
export const EVENT = "summary";
const SEND_TIMEOUT_MS = 5_000;
const VERDICTS: readonly string[] = ["replayed_signature", "instance_inactive", "invalid_action"] satisfies ErrorCode[];

export interface State {
  /** The answer as the text of a JSON object. Throws a `Refusal`. */
  request(request: Verified, body: string): Promise<string>;
  /** Whether the cursor was moved. */
  sent(instance: string, before: string | null, after: string): Promise<boolean>;
}

export interface Surroundings extends Configurable<State> {
  now(): number;
  fetch(url: string, init: RequestInit): Promise<Response>;
}

/** A handler for the function called `name`. */
export function realtime(name: string, around: Surroundings): (request: Request) => Promise<Response> {
  const configuration = configured(around);

  async function take(request: Request): Promise<Response> {
    if (!new RegExp(`^(/functions/v1)?/${name}/?$`).test(new URL(request.url).pathname)) throw new Refusal("not_found");
    if (request.method !== "POST") throw new Refusal("method_not_allowed");
    if (!isJson(request.headers.get("content-type"))) throw new Refusal("unsupported_media_type");
    const body = await readBody(request);
    const { secrets, database } = await configuration();
    const verified = await verify(request.headers, body, secrets, around.now());
    const text = objectText(body, "invalid_action");
    const answer = await database.request(verified, text);
    if (JSON.parse(text).action !== "broadcast") return answered(answer);
    const { before, after, changed, summary } = JSON.parse(answer);
    if (changed === 0) return answered(JSON.stringify({ sent: false, summary }));
    await send(around, summary);
    // Another one that was under way at the same time may have moved it already: then this was told of twice.
    const moved = await database.sent(verified.instance, before, after);
    return answered(JSON.stringify({ sent: true, moved, summary }));
  }

  return async (request) => {
    try {
      return await take(request);
    } catch (error) {
      const refusal = error instanceof Refusal ? error : new Refusal("database_unavailable");
      const fault = error instanceof Refusal ? {} : { fault: error instanceof Error ? error.name : "unknown" };
      around.log({ level: levelOf(refusal.code), event: "refused", code: refusal.code, ...fault });
      return refused(refusal);
    }
  };
}

/** Returns once Realtime has said that it took the broadcast. Throws `realtime_refused` or `realtime_unavailable`. */
async function send(around: Surroundings, payload: unknown): Promise<void> {
  const base = around.env("SUPABASE_URL") ?? "";
  const key = around.env("SUPABASE_SERVICE_ROLE_KEY") ?? "";
  if (base === "" || key === "") {
    throw new Refusal("not_configured", "SUPABASE_URL and SUPABASE_SERVICE_ROLE_KEY are not set for this function");
  }
  let status: number;
  try {
    const response = await around.fetch(`${base.replace(/\/+$/, "")}/realtime/v1/api/broadcast`, {
      method: "POST",
      headers: { "content-type": "application/json", apikey: key, authorization: `Bearer ${key}` },
      body: JSON.stringify({ messages: [{ topic: CHANNEL, event: EVENT, payload, private: true }] }),
      redirect: "manual",
      signal: AbortSignal.timeout(SEND_TIMEOUT_MS),
    });
    status = response.status;
    await response.body?.cancel();
  } catch (error) {
    around.log({ level: "error", event: "realtime_failed", fault: error instanceof Error ? error.name : "unknown" });
    throw new Refusal("realtime_unavailable");
  }
  // 202 is its only yes: a 200 is the page of something else.
  if (status === 202) return;
  around.log({ level: "error", event: "realtime_failed", status });
  if (status >= 500 || status === 429 || status === 408) throw new Refusal("realtime_unavailable");
  throw new Refusal(
    "realtime_refused",
    `Realtime answered ${status} to the broadcast: check SUPABASE_URL and SUPABASE_SERVICE_ROLE_KEY; ` +
      "the cursor stays where it was",
  );
}

/** The handler as the platform runs it. */
export function serve(name: string): void {
  Deno.serve(realtime(name, {
    env: (variable) => Deno.env.get(variable),
    now: () => Date.now(),
    connect,
    fetch: (url, init) => fetch(url, init),
    log: (line) => console.log(JSON.stringify(line)),
  }));
}

function connect(url: string): State {
  const sql = open(url, "realtime sync", 2);
  return {
    async request({ instance, idempotencyKey, signature, signedAt }, body) {
      let rows;
      try {
        rows = await within(
          INGEST_TIMEOUT_MS,
          sql<{ verdict: string; answer: string | null }[]>`
            select verdict, answer::text
            from odoo.realtime_request(
              ${instance}::text, ${idempotencyKey}::uuid, ${body}::text, ${signature}::text,
              ${signedAt.toISOString()}::timestamptz)`,
        );
      } catch (error) {
        const state = stateOf(error);
        // A data error: the same bytes would be refused again.
        if (/^22[0-9A-Z]{3}$/.test(state) || state === "54001") throw new Refusal("invalid_action");
        console.error(JSON.stringify({ level: "error", event: "realtime_sync_failed", state }));
        throw new Refusal("database_unavailable");
      }
      const row = rows[0];
      if (row !== undefined && VERDICTS.includes(row.verdict)) throw new Refusal(row.verdict as ErrorCode);
      if (row === undefined || row.answer === null) throw new Refusal("database_unavailable");
      return row.answer;
    },
    async sent(instance, before, after) {
      const rows = await within(
        INGEST_TIMEOUT_MS,
        sql<{ moved: boolean }[]>`
          select odoo.realtime_sent(${instance}::text, ${before}::text, ${after}::text) as moved`,
      );
      return rows[0]?.moved ?? false;
    },
  };
}
