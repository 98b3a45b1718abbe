/** Whether a body is an event of the contract. It is only judged here: what is stored, SQL takes from the raw text. */

import { type ErrorCode, Refusal } from "./answers.ts";

const KEYS = ["aggregate_id", "aggregate_type", "event_type", "payload"];
const EVENT_TYPE = /^[a-z][a-z0-9_]*(\.[a-z0-9_]+)+$/;
const MODEL = /^[a-z_][a-z0-9_]*(\.[a-z0-9_]+)*$/;
const MAX_NAME = 200;

/** The body as text. Throws `invalid_utf8`, `invalid_json` or `invalid_event`, which names the field and the rule. */
export function eventText(body: Uint8Array): string {
  const text = decode(body);
  let event: unknown;
  try {
    event = JSON.parse(text);
  } catch {
    throw new Refusal("invalid_json");
  }
  if (!isObject(event)) throw new Refusal("invalid_event", "the body must be a JSON object");
  const keys = Object.keys(event).sort();
  if (keys.length !== KEYS.length || keys.some((key, index) => key !== KEYS[index])) {
    throw new Refusal(
      "invalid_event",
      "the body must have exactly event_type, aggregate_type, aggregate_id and payload",
    );
  }
  const { event_type, aggregate_type, aggregate_id, payload } = event;
  if (typeof event_type !== "string" || event_type.length > MAX_NAME || !EVENT_TYPE.test(event_type)) {
    throw new Refusal(
      "invalid_event",
      "event_type must be two or more lower-case words joined by dots, at most 200 characters",
    );
  }
  if (typeof aggregate_type !== "string" || aggregate_type.length > MAX_NAME || !MODEL.test(aggregate_type)) {
    throw new Refusal("invalid_event", "aggregate_type must be the name of an Odoo model, at most 200 characters");
  }
  if (typeof aggregate_id !== "string" || !isId(aggregate_id)) {
    throw new Refusal(
      "invalid_event",
      "aggregate_id must be text of 1 to 200 characters, none of them a control character",
    );
  }
  if (!isObject(payload)) throw new Refusal("invalid_event", "payload must be a JSON object");
  requireFinite(payload);
  return text;
}

export function decode(body: Uint8Array): string {
  try {
    // A byte order mark would otherwise be dropped in silence, and the text be other than what was signed.
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(body);
    if (!text.startsWith("\uFEFF")) return text;
  } catch {
    // Answered below.
  }
  throw new Refusal("invalid_utf8");
}

/** The text of a body that is a JSON object; `code` is the refusal of any other JSON. */
export function objectText(body: Uint8Array, code: ErrorCode): string {
  const text = decode(body);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Refusal("invalid_json");
  }
  if (!isObject(value)) throw new Refusal(code);
  return text;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isId(text: string): boolean {
  const characters = [...text];
  // deno-lint-ignore no-control-regex
  return characters.length >= 1 && characters.length <= MAX_NAME && !/[\x00-\x1f\x7f-\x9f]/.test(text) &&
    text.isWellFormed();
}

/** A number that no double holds (1e999) would be stored exactly, and then break whoever reads it. */
function requireFinite(payload: Record<string, unknown>): void {
  // A stack of our own: the depth is the sender's choice.
  const stack: unknown[] = [payload];
  while (stack.length > 0) {
    const value = stack.pop();
    if (typeof value === "number") {
      if (!Number.isFinite(value)) {
        throw new Refusal("invalid_event", "payload holds a number beyond the range of a double");
      }
    } else if (typeof value === "object" && value !== null) {
      for (const inner of Object.values(value)) stack.push(inner);
    }
  }
}
