/**
 * The webhook's order of things: method, content type, size, configuration, signature, content, ingest, answer; then,
 * after the answer, processing. What dies between the two is done by odoo.sweep_events.
 */

import { accepted, ERROR_CODES, type ErrorCode, Refusal, refused } from "./answers.ts";
import { readBody } from "./body.ts";
import { type Inbox, stateOf } from "./db.ts";
import { eventText } from "./event.ts";
import { parseSecrets, type Secret, verify } from "./verify.ts";

export interface Surroundings {
  env(name: string): string | undefined;
  now(): number;
  connect(url: string): Inbox;
  /** Lets work go on after the answer. */
  waitUntil(work: Promise<void>): void;
  log(line: Record<string, unknown>): void;
}

interface Configuration<Database> {
  readonly secrets: readonly Secret[];
  readonly database: Database;
}

/** What every function that verifies needs of the world around it. */
export interface Configurable<Database> {
  env(name: string): string | undefined;
  connect(url: string): Database;
  log(line: Record<string, unknown>): void;
}

/** A handler for the function called `name`. Nothing is read or connected before the first request needs it. */
export function webhook(name: string, around: Surroundings): (request: Request) => Promise<Response> {
  const configuration = configured(around);

  async function take(request: Request): Promise<Response> {
    if (!new RegExp(`^(/functions/v1)?/${name}/?$`).test(new URL(request.url).pathname)) throw new Refusal("not_found");
    if (request.method !== "POST") throw new Refusal("method_not_allowed");
    if (!isJson(request.headers.get("content-type"))) throw new Refusal("unsupported_media_type");
    const body = await readBody(request);
    const { secrets, database: inbox } = await configuration();
    const event = await verify(request.headers, body, secrets, around.now());
    const { id, duplicate } = await inbox.ingest(event, eventText(body));
    if (!duplicate) {
      around.waitUntil(
        inbox.process(id).catch((error: unknown) =>
          around.log({ level: "error", event: "processing_failed", id, state: stateOf(error) })
        ),
      );
    }
    return accepted(id, duplicate);
  }

  return async (request) => {
    try {
      return await take(request);
    } catch (error) {
      // Anything else is a fault of ours; the sender is to try again.
      const refusal = error instanceof Refusal ? error : new Refusal("database_unavailable");
      const fault = error instanceof Refusal ? {} : { fault: error instanceof Error ? error.name : "unknown" };
      around.log({ level: levelOf(refusal.code), event: "refused", code: refusal.code, ...fault });
      return refused(refusal);
    }
  };
}

/** The secrets and the database, as they are set now; `not_configured` without them. */
export function configured<Database>(around: Configurable<Database>): () => Promise<Configuration<Database>> {
  let known: { setting: string; url: string; value: Promise<Configuration<Database>> } | undefined;
  return async () => {
    const setting = around.env("IPAI_BRIDGE_SECRET") ?? "";
    const url = around.env("SUPABASE_DB_URL") ?? "";
    if (known === undefined || known.setting !== setting || known.url !== url) {
      known = { setting, url, value: configure(setting, url, around) };
    }
    try {
      return await known.value;
    } catch (error) {
      known = undefined;
      if (!(error instanceof Refusal)) {
        around.log({
          level: "error",
          event: "configuration_failed",
          fault: error instanceof Error ? error.name : "unknown",
        });
      }
      throw new Refusal("not_configured");
    }
  };
}

async function configure<Database>(
  setting: string,
  url: string,
  around: Configurable<Database>,
): Promise<Configuration<Database>> {
  const secrets = await parseSecrets(setting);
  // Never open: without a secret nothing could be told from a forgery.
  if (secrets.length === 0 || url === "") throw new Refusal("not_configured");
  return { secrets, database: around.connect(url) };
}

export function isJson(contentType: string | null): boolean {
  return contentType !== null && /^application\/json\s*(;\s*charset="?utf-8"?\s*)?$/i.test(contentType);
}

export function levelOf(code: ErrorCode): string {
  return ERROR_CODES[code][0] >= 500 ? "error" : "warning";
}
