/** The database, as two SQL functions. Every fault of it is either the sender's (a body SQL cannot take) or "try again". */

import postgres from "postgres";
import { Refusal } from "./answers.ts";
import type { Verified } from "./verify.ts";

export interface Ingested {
  /** A 64-bit integer as text. */
  readonly id: string;
  readonly duplicate: boolean;
}

export interface Inbox {
  /** Stores the event once. Throws `replayed_signature`, `instance_inactive`, `invalid_event` or `database_unavailable`. */
  ingest(event: Verified, body: string): Promise<Ingested>;
  /** Processes what is due of the event's aggregate. Throws what the driver throws: the sweep will do it then. */
  process(id: string): Promise<void>;
}

/** Shorter than the sender waits (10 s): it is to hear a 503, not nothing. */
export const INGEST_TIMEOUT_MS = 8_000;
const PROCESS_TIMEOUT_MS = 60_000;
const BATCH = 100;
const LANES = 2;

const options = {
  // The pooler gives each transaction another connection: a statement prepared on one is unknown on the next.
  prepare: false,
  // One round trip less per connection: no type here needs the catalog.
  fetch_types: false,
  connect_timeout: 5,
  idle_timeout: 20,
  max_lifetime: 30 * 60,
  // Otherwise it grows to 20 seconds, and every event would be refused that long after the database is back.
  backoff: () => 0.25,
  onnotice: () => {},
};

/** A pool of at most `max` connections, which PostgreSQL shows under `name`. */
export function open(url: string, name: string, max: number) {
  return postgres(url, { ...options, max, connection: { application_name: name } });
}

/** An inbox behind `url`. Connects when first asked, and again whenever it must. */
export function connect(url: string): Inbox {
  // Apart from each other: a slow handler must not keep events out.
  const ingesting = open(url, "odoo-webhook", 4);
  const processing = open(url, "odoo-webhook processing", LANES);

  return {
    async ingest(event, body) {
      let rows;
      try {
        rows = await within(
          INGEST_TIMEOUT_MS,
          ingesting<{ id: string | null; duplicate: boolean; verdict: string }[]>`
            select id::text, duplicate, verdict
            from odoo.ingest_event(
              ${event.instance}::text, ${event.idempotencyKey}::uuid, ${event.sequence}::bigint, ${body}::text,
              ${event.signature}::text, ${event.signedAt.toISOString()}::timestamptz)`,
        );
      } catch (error) {
        throw refusalOf(error);
      }
      const row = rows[0];
      if (row?.verdict === "replayed_signature" || row?.verdict === "instance_inactive") throw new Refusal(row.verdict);
      if (row === undefined || row.id === null) throw new Refusal("database_unavailable");
      return { id: row.id, duplicate: row.duplicate };
    },

    process: inBatches(async (ids) => {
      const list = `{${ids.join(",")}}`;
      const rows = await within(
        PROCESS_TIMEOUT_MS,
        processing<{ remaining: string }[]>`
          select remaining::text from odoo.process_events(${list}::text::bigint[])`,
      );
      return rows[0]?.remaining.match(/[0-9]+/g) ?? [];
    }),
  };
}

/**
 * One function for single ids out of one that takes many and answers with those it did not get to. What comes while
 * `LANES` calls are under way waits, and goes together in the next one: the more there is to do, the cheaper each becomes.
 */
export function inBatches(run: (ids: string[]) => Promise<string[]>): (id: string) => Promise<void> {
  const waiting: { id: string; settle: PromiseWithResolvers<void> }[] = [];
  let lanes = 0;

  async function drain(): Promise<void> {
    lanes += 1;
    for (let batch = waiting.splice(0, BATCH); batch.length > 0; batch = waiting.splice(0, BATCH)) {
      try {
        const remaining = new Set(await run(batch.map(({ id }) => id)));
        for (const one of batch) {
          // One that never gets its turn is the sweep's; here, the front of the queue has moved on.
          if (remaining.has(one.id) && remaining.size < batch.length) waiting.push(one);
          else one.settle.resolve();
        }
      } catch (error) {
        for (const { settle } of batch) settle.reject(error);
      }
    }
    lanes -= 1;
  }

  return (id) => {
    const settle = Promise.withResolvers<void>();
    waiting.push({ id, settle });
    if (lanes < LANES) void drain();
    return settle.promise;
  };
}

/** The query's result, or its cancellation: neither server nor pooler is trusted to keep the time. */
export async function within<T extends readonly postgres.MaybeRow[]>(
  milliseconds: number,
  query: postgres.PendingQuery<T>,
): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      try {
        query.cancel();
      } catch {
        // Not even sent yet.
      }
      reject(Object.assign(new Error("no answer of the database in time"), { code: "TIMEOUT" }));
    }, milliseconds);
  });
  query.catch(() => {}); // Whichever comes second is nobody's.
  try {
    return await Promise.race([query, late]) as T;
  } finally {
    clearTimeout(timer);
  }
}

/** The SQLSTATE, or the driver's own code, of a failure. Never its text: that may quote what was sent. */
export function stateOf(error: unknown): string {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === "string" && /^[A-Z0-9_]{1,40}$/.test(code) ? code : "unknown";
}

function refusalOf(error: unknown): Refusal {
  const state = stateOf(error);
  // 22: a data error, such as a \u0000 or a lone surrogate; 54001: nested too deep; 23514: a CHECK constraint.
  if (/^22[0-9A-Z]{3}$/.test(state) || state === "54001" || state === "23514") {
    return new Refusal("invalid_event", "PostgreSQL cannot store this body (" + state + ")");
  }
  console.error(JSON.stringify({ level: "error", event: "ingest_failed", state }));
  return new Refusal("database_unavailable");
}
