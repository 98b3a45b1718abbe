/** One channel that a client has joined: what it asked for, and who it is. */

import { type Claims, claimsOf, JwtFault } from "./jwt.ts";
import { isObject } from "./realtime_frames.ts";
import type { Action } from "./realtime_wal.ts";

const MAX_BINDINGS = 100;
const ROLES: readonly string[] = ["anon", "authenticated", "service_role"];
const EVENTS: readonly string[] = ["*", "INSERT", "UPDATE", "DELETE"];

/** A message that is refused; the client is told why. */
export class Refused extends Error {}

export interface Subject {
  readonly role: string;
  /** The token's claims, as JSON: what policies read. */
  readonly claims: string;
}

export interface Filter {
  readonly column: string;
  readonly operator: string;
  readonly value: string;
}

/** What a subscriber asks for. */
export interface Binding {
  readonly id: number;
  readonly event: Action | "*";
  readonly schema: string;
  readonly table: string;
  readonly filters: readonly Filter[];
  readonly select: readonly string[] | null;
}

export interface Wishes {
  readonly bindings: readonly Binding[];
  /** The bindings as the client wrote them, each with its id. */
  readonly echo: readonly Record<string, unknown>[];
  readonly broadcast: { readonly self: boolean; readonly ack: boolean };
  readonly presence: { readonly enabled: boolean; readonly key: string };
  readonly private: boolean;
}

export interface Identity {
  readonly subject: Subject;
  /** When the token ends, in milliseconds; null: never. */
  readonly ends: number | null;
}

/** The role that the claims name, where it is one of the API's; else null. */
export function roleOf(claims: { readonly role?: string }): string | null {
  return typeof claims.role === "string" && ROLES.includes(claims.role) ? claims.role : null;
}

/** "column=eq.value", or several of these joined by commas; null where it is none. */
export function parseFilters(text: string): Filter[] | null {
  const filters: Filter[] = [];
  for (const part of text.match(/[^,(]*(?:\([^)]*\)?)?[^,]*/g)?.filter((one) => one !== "") ?? []) {
    const [, column, operator, value] = /^([^=]{1,63})=(eq|neq|lt|lte|gt|gte|in)\.([\s\S]*)$/.exec(part) ?? [];
    if (column === undefined || operator === undefined || value === undefined) return null;
    if (operator !== "in") filters.push({ column, operator, value });
    else if (/^\([^(){}"\\]*\)$/.test(value)) filters.push({ column, operator, value: `{${value.slice(1, -1)}}` });
    else return null;
  }
  return filters.length > 0 && filters.length <= 20 ? filters : null;
}

/** Who a token is. Throws `Refused`. */
export async function identify(token: unknown, secret: string, now: number): Promise<Identity> {
  try {
    if (typeof token !== "string") throw new JwtFault("no token was given");
    const claims: Claims = await claimsOf(token, secret, now);
    const role = roleOf(claims);
    if (role === null) throw new JwtFault("its role is none of anon, authenticated and service_role");
    const ends = typeof claims.exp === "number" ? claims.exp * 1000 : null;
    return { subject: { role, claims: JSON.stringify(claims) }, ends };
  } catch (error) {
    throw new Refused(`InvalidJWTToken: ${error instanceof JwtFault ? error.message : "unreadable"}`);
  }
}

/** What the payload of a phx_join asks for. Throws `Refused`. */
export function wishesOf(payload: Record<string, unknown>): Wishes {
  const config = isObject(payload.config) ? payload.config : {};
  const asked = config.postgres_changes ?? [];
  if (!Array.isArray(asked) || asked.length > MAX_BINDINGS) {
    throw new Refused(`postgres_changes must be a list of at most ${MAX_BINDINGS}`);
  }
  const bindings = asked.map(bindingOf);
  const broadcast = isObject(config.broadcast) ? config.broadcast : {};
  const presence = isObject(config.presence) ? config.presence : {};
  const key = typeof presence.key === "string" && presence.key !== ""
    ? presence.key.slice(0, 255)
    : crypto.randomUUID();
  return {
    bindings,
    echo: asked.map((one, index) => ({ ...pick(one), id: bindings[index]!.id })),
    broadcast: { self: broadcast.self === true, ack: broadcast.ack === true },
    presence: { enabled: presence.enabled === true, key },
    private: config.private === true,
  };
}

function bindingOf(asked: unknown): Binding {
  const name = (value: unknown) => typeof value === "string" && value.length <= 63;
  if (!isObject(asked)) throw new Refused("an entry of postgres_changes must be an object");
  const { event, schema = "public", table = "*", filter, select = null } = asked;
  if (typeof event !== "string" || !EVENTS.includes(event)) {
    throw new Refused("an event of postgres_changes must be *, INSERT, UPDATE or DELETE");
  }
  if (!name(schema) || !name(table)) throw new Refused("schema and table of postgres_changes must be names");
  let filters: Filter[] = [];
  if (filter !== undefined && filter !== null && filter !== "") {
    const parsed = typeof filter === "string" && filter.length <= 2000 ? parseFilters(filter) : null;
    if (parsed === null) throw new Refused("a filter must be column=eq.value; or neq, lt, lte, gt, gte, in");
    filters = parsed;
  }
  if (select !== null && !(Array.isArray(select) && select.length > 0 && select.every(name))) {
    throw new Refused("select must be a list of columns");
  }
  return {
    id: crypto.getRandomValues(new Uint32Array(1))[0]! >>> 1 || 1,
    event: event as Binding["event"],
    schema: schema as string,
    table: table as string,
    filters,
    select: select as string[] | null,
  };
}

function pick(asked: unknown): Record<string, unknown> {
  const known = ["event", "schema", "table", "filter", "select"];
  return Object.fromEntries(Object.entries(asked as Record<string, unknown>).filter(([name]) => known.includes(name)));
}
