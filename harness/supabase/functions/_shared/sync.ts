/**
 * The scheduled syncs' order of things, the webhook's in short: method, content type, size, configuration, signature,
 * content, one SQL function, answer. What a page means, SQL says (odoo_seed.sync_request).
 */

import { answered, type ErrorCode, Refusal, refused } from "./answers.ts";
import { readBody } from "./body.ts";
import { INGEST_TIMEOUT_MS, open, stateOf, within } from "./db.ts";
import { objectText } from "./event.ts";
import { type Verified, verify } from "./verify.ts";
import { type Configurable, configured, isJson, levelOf } from "./webhook.ts";

export type Sync = "finance" | "modules";

export interface Ledger {
  /** The answer as the text of a JSON object. Throws a `Refusal`. */
  request(sync: Sync, request: Verified, body: string): Promise<string>;
}

export interface Surroundings extends Configurable<Ledger> {
  now(): number;
}

const VERDICTS: readonly string[] = [
  "replayed_signature",
  "instance_inactive",
  "invalid_page",
  "page_out_of_order",
  "unknown_run",
  "run_ended",
  "run_in_progress",
] satisfies ErrorCode[];

/** A handler for the function called `name`, which takes the pages of `sync`. */
export function sync(name: string, sync: Sync, around: Surroundings): (request: Request) => Promise<Response> {
  const configuration = configured(around);

  async function take(request: Request): Promise<Response> {
    if (!new RegExp(`^(/functions/v1)?/${name}/?$`).test(new URL(request.url).pathname)) throw new Refusal("not_found");
    if (request.method !== "POST") throw new Refusal("method_not_allowed");
    if (!isJson(request.headers.get("content-type"))) throw new Refusal("unsupported_media_type");
    const body = await readBody(request);
    const { secrets, database } = await configuration();
    const verified = await verify(request.headers, body, secrets, around.now());
    return answered(await database.request(sync, verified, objectText(body, "invalid_page")));
  }

  return async (request) => {
    try {
      return await take(request);
    } catch (error) {
      const refusal = error instanceof Refusal ? error : new Refusal("database_unavailable");
      const fault = error instanceof Refusal ? {} : { fault: error instanceof Error ? error.name : "unknown" };
      around.log({ level: levelOf(refusal.code), event: "refused", sync, code: refusal.code, ...fault });
      return refused(refusal);
    }
  };
}

/** The handler as the platform runs it. */
export function serve(name: string, kind: Sync): void {
  Deno.serve(sync(name, kind, {
    env: (variable) => Deno.env.get(variable),
    now: () => Date.now(),
    connect,
    log: (line) => console.log(JSON.stringify(line)),
  }));
}

function connect(url: string): Ledger {
  const sql = open(url, "odoo sync", 2);
  return {
    async request(sync, { instance, idempotencyKey, signature, signedAt }, body) {
      let rows;
      try {
        rows = await within(
          INGEST_TIMEOUT_MS,
          sql<{ verdict: string; answer: string | null }[]>`
            select verdict, answer::text
            from odoo_seed.sync_request(
              ${sync}::text, ${instance}::text, ${idempotencyKey}::uuid, ${body}::text, ${signature}::text,
              ${signedAt.toISOString()}::timestamptz)`,
        );
      } catch (error) {
        throw refusalOf(error);
      }
      const row = rows[0];
      if (row !== undefined && VERDICTS.includes(row.verdict)) throw new Refusal(row.verdict as ErrorCode);
      if (row === undefined || row.answer === null) throw new Refusal("database_unavailable");
      return row.answer;
    },
  };
}

function refusalOf(error: unknown): Refusal {
  const state = stateOf(error);
  // 22: a data error; 23: a constraint; 54001: nested too deep. The same bytes would be refused again.
  if (/^2[23][0-9A-Z]{3}$/.test(state) || state === "54001") {
    return new Refusal("invalid_page", "PostgreSQL cannot store this page (" + state + ")");
  }
  console.error(JSON.stringify({ level: "error", event: "sync_failed", state }));
  return new Refusal("database_unavailable");
}
