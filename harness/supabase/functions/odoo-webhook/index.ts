/** The receiver of events out of Odoo: verify, call SQL, answer. See ../_shared/webhook.ts for the order of things. */

import { connect } from "../_shared/db.ts";
import { webhook } from "../_shared/webhook.ts";

// Not there outside of an edge runtime; then the work simply goes on.
const { EdgeRuntime } = globalThis as { EdgeRuntime?: { waitUntil(work: Promise<unknown>): void } };

Deno.serve(webhook("odoo-webhook", {
  env: (name) => Deno.env.get(name),
  now: () => Date.now(),
  connect,
  waitUntil: (work) => EdgeRuntime?.waitUntil(work),
  log: (line) => console.log(JSON.stringify(line)),
}));
