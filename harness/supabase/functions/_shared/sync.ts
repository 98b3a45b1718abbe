/**
 * The scheduled syncs' order of things, the webhook's in short: method, content type, size, configuration, signature,
 * content, one SQL function, answer. What a page means, SQL says (odoo_seed.sync_request, catalog.request).
 */

import { answered, type ErrorCode, Refusal, refused } from "./answers.ts";
import { readBody } from "./body.ts";
import { INGEST_TIMEOUT_MS, open, stateOf, within } from "./db.ts";
import { objectText } from "./event.ts";
import { type Verified, verify } from "./verify.ts";
import { type Configurable, configured, isJson, levelOf } from "./webhook.ts";

export type Sync = "finance" | "modules" | "catalog" | "documents";

/** What is added to SQL's answer, on the way out. */
export type Complete = (answer: string) => Promise<string>;

export interface Ledger {
  /** The answer as the text of a JSON object. Throws a `Refusal`. */
  request(sync: Sync, request: Verified, body: string): Promise<string>;
}

export interface Surroundings extends Configurable<Ledger> {
  now(): number;
  complete?: Complete;
}

const VERDICTS: readonly string[] = [
  "replayed_signature",
  "instance_inactive",
  "invalid_page",
  "page_out_of_order",
  "unknown_run",
  "run_ended",
  "run_in_progress",
  "unknown_action",
  "invalid_request",
  "invalid_fqdn",
  "asset_reserved",
  "unknown_asset",
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
    const answer = await database.request(sync, verified, objectText(body, malformed(sync)));
    return answered(around.complete === undefined ? answer : await around.complete(answer));
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
export function serve(name: string, kind: Sync, complete?: Complete): void {
  Deno.serve(sync(name, kind, {
    complete,
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
      const call = sync === "catalog" ? sql`catalog.request(` : sql`odoo_seed.sync_request(${sync}::text,`;
      let rows;
      try {
        rows = await within(
          INGEST_TIMEOUT_MS,
          sql<{ verdict: string; answer: string | null; detail: string | null }[]>`
            select verdict, answer::text, answer ->> 'detail' as detail
            from ${call} ${instance}::text, ${idempotencyKey}::uuid, ${body}::text, ${signature}::text,
              ${signedAt.toISOString()}::timestamptz)`,
        );
      } catch (error) {
        throw refusalOf(sync, error);
      }
      const row = rows[0];
      if (row !== undefined && VERDICTS.includes(row.verdict)) {
        throw new Refusal(row.verdict as ErrorCode, row.detail ?? undefined);
      }
      if (row === undefined || row.answer === null) throw new Refusal("database_unavailable");
      return row.answer;
    },
  };
}

/** What is refused as a whole: a page of a sync, or a request to the catalog, which has other actions too. */
function malformed(sync: Sync): ErrorCode {
  return sync === "catalog" ? "invalid_request" : "invalid_page";
}

function refusalOf(sync: Sync, error: unknown): Refusal {
  const state = stateOf(error);
  // 22: a data error; 23: a constraint; 54: nested too deep, or too large. The same bytes would be refused again.
  if (/^(22|23|54)[0-9A-Z]{3}$/.test(state)) {
    return new Refusal(malformed(sync), "PostgreSQL cannot store this page (" + state + ")");
  }
  console.error(JSON.stringify({ level: "error", event: "sync_failed", state }));
  return new Refusal("database_unavailable");
}
