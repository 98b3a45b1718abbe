/** The receiver of events out of Odoo: verify, call SQL, answer. See ../_shared/webhook.ts for the order of things. */

import { connect } from "../_shared/db.ts";
import { webhook } from "../_shared/webhook.ts";

declare const EdgeRuntime: { waitUntil(work: Promise<unknown>): void };

Deno.serve(webhook("odoo-webhook", {
  env: (name) => Deno.env.get(name),
  now: () => Date.now(),
  connect,
  waitUntil: (work) => EdgeRuntime.waitUntil(work),
  log: (line) => console.log(JSON.stringify(line)),
}));
