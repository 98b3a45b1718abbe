/**
 * Supabase's Realtime, for a harness: the official clients subscribe to it as to the platform's, unchanged.
 *
 *   GET  /realtime/v1/websocket?apikey=…&vsn=1.0.0|2.0.0   Phoenix's channels: postgres_changes, broadcast, presence
 *   POST /realtime/v1/api/broadcast                        {"messages":[{"topic","event","payload","private"},…]}: 202
 *   POST /realtime/v1/api/broadcast/TOPIC/events/EVENT     the payload of one message: 202
 *
 * Changes are those of the publication supabase_realtime, read from PostgreSQL's log while anybody asks for them, and
 * checked row by row with the role and the claims of each subscriber (realtime_rows.ts). Private channels are guarded
 * by the policies of realtime.messages. A token that ends closes its channels.
 *
 * Not like the platform: no replay of broadcasts and none that are binary; none of the filters but eq, neq, lt, lte, gt,
 * gte and in; no limits by plan and no tenants; a join of a topic that is joined already replaces the first one without
 * a phx_close; and it is the frames of WebSocket, not heartbeats, that tell whether a client is still there. As on the platform,
 * what is committed while PostgreSQL's log is not read (a restart of either side) reaches nobody: "Subscribed to
 * PostgreSQL" comes again when it is.
 */

import { identify, Refused, type Subject } from "./realtime_channel.ts";
import { isObject, type Version } from "./realtime_frames.ts";
import { Rows } from "./realtime_rows.ts";
import { type Channel, Client } from "./realtime_socket.ts";
import { ChangeStream } from "./realtime_wal.ts";

const PREFIX = "/realtime/v1/";
const PUBLICATION = "supabase_realtime";
const MAX_CLIENTS = 500;
const MAX_BODY = 3_000_000;
const IDLE_SECONDS = 30;
const CORS = { "access-control-allow-origin": "*", "access-control-allow-headers": "*" };

export interface RealtimeOptions {
  readonly databaseUrl: string;
  readonly jwtSecret: string;
  log(line: Record<string, unknown>): void;
}

/** Everybody who is connected, and what they are told. */
export class Hub {
  readonly clients = new Set<Client>();
  readonly jwtSecret: string;
  readonly log: RealtimeOptions["log"];
  readonly #channels = new Map<string, Set<Channel>>();
  readonly #watching = new Set<Channel>();
  readonly #rows: Rows;
  readonly #stream: ChangeStream;

  constructor({ databaseUrl, jwtSecret, log }: RealtimeOptions) {
    this.jwtSecret = jwtSecret;
    this.log = log;
    this.#rows = new Rows(databaseUrl, PUBLICATION);
    this.#stream = new ChangeStream({
      url: databaseUrl,
      publication: PUBLICATION,
      log,
      connected: () => {
        for (const channel of this.#watching) void this.#subscribe(channel);
      },
      deliver: async (changes) => {
        try {
          await this.#rows.tell(changes, [...this.#watching]);
        } catch (error) {
          // Without an answer nobody may see them.
          log({ level: "error", event: "realtime_not_told", changes: changes.length, state: stateOf(error) });
        }
      },
    });
  }

  permits(right: "select" | "insert", topic: string, subject: Subject): Promise<boolean> {
    return this.#rows.permits(right, topic, subject);
  }

  enter(channel: Channel): void {
    const others = this.#channels.get(channel.key) ?? new Set();
    this.#channels.set(channel.key, others.add(channel));
    this.watch(channel);
  }

  /** Lets the channel hear of changes, if it asks for any. */
  watch(channel: Channel): void {
    if (channel.bindings.length === 0) return;
    this.#watching.add(channel);
    if (this.#stream.live) void this.#subscribe(channel);
    else this.#stream.start();
  }

  exit(channel: Channel): void {
    this.track(channel, null);
    const others = this.#channels.get(channel.key);
    others?.delete(channel);
    if (others?.size === 0) this.#channels.delete(channel.key);
    if (this.#watching.delete(channel) && this.#watching.size === 0) void this.#stream.stop();
  }

  /** Sends to all channels of this key but `except`. */
  broadcast(key: string, event: string, payload: unknown, except: Channel | null = null): void {
    const text = JSON.stringify({ type: "broadcast", event, payload });
    for (const channel of this.#channels.get(key) ?? []) if (channel !== except) channel.push("broadcast", text);
  }

  /** Notes who is there, and tells the others of the channel. */
  track(channel: Channel, presence: Channel["presence"]): void {
    const key = channel.wishes.presence.key;
    const metas = (one: Channel["presence"]) =>
      one === null ? {} : { [key]: { metas: [{ ...one.meta, phx_ref: one.ref }] } };
    const diff = { joins: metas(presence), leaves: metas(channel.presence) };
    if (presence === null && channel.presence === null) return;
    channel.presence = presence;
    for (const other of this.#channels.get(channel.key) ?? []) {
      if (other.wishes.presence.enabled) other.push("presence_diff", JSON.stringify(diff));
    }
  }

  /** Who is there. */
  present(key: string): Record<string, { metas: unknown[] }> {
    const state: Record<string, { metas: unknown[] }> = Object.create(null);
    for (const { presence, wishes } of this.#channels.get(key) ?? []) {
      if (presence !== null) {
        (state[wishes.presence.key] ??= { metas: [] }).metas.push({ ...presence.meta, phx_ref: presence.ref });
      }
    }
    return state;
  }

  async close(): Promise<void> {
    for (const client of [...this.clients]) client.leave(1001, "going away");
    await Promise.all([this.#stream.stop(), this.#rows.close()]);
  }

  async #subscribe(channel: Channel): Promise<void> {
    const { identity } = channel;
    try {
      for (const binding of channel.bindings) {
        const fault = await this.#rows.fault(binding, identity.subject);
        if (channel.identity !== identity) return; // it is asked again for who it is now
        if (fault === null) continue;
        this.#watching.delete(channel);
        return channel.subscribed(fault);
      }
      channel.subscribed(null);
    } catch (error) {
      this.log({ level: "warning", event: "realtime_not_subscribed", state: stateOf(error) });
      channel.subscribed("the database does not answer");
    }
  }
}

export interface Realtime {
  /** The answer to a request below /realtime/v1/. */
  answer(request: Request, url: URL): Promise<Response>;
  close(): Promise<void>;
}

export function realtime(options: RealtimeOptions): Realtime {
  const hub = new Hub(options);
  const refuse = (status: number, message: string) => Response.json({ message }, { status, headers: CORS });

  async function connect(request: Request, url: URL): Promise<Response> {
    if (request.headers.get("upgrade")?.toLowerCase() !== "websocket") {
      return refuse(426, "a WebSocket is expected here");
    }
    const version = url.searchParams.get("vsn") ?? "1.0.0";
    if (version !== "1.0.0" && version !== "2.0.0") return refuse(400, "vsn must be 1.0.0 or 2.0.0");
    const apikey = url.searchParams.get("apikey") ?? request.headers.get("x-api-key") ?? "";
    await identify(apikey, hub.jwtSecret, Date.now());
    if (hub.clients.size >= MAX_CLIENTS) return refuse(429, "too many connections");
    const { socket, response } = Deno.upgradeWebSocket(request, { idleTimeout: IDLE_SECONDS });
    hub.clients.add(new Client(socket, version as Version, apikey, hub));
    return response;
  }

  async function broadcast(request: Request, url: URL): Promise<Response> {
    if (request.method === "OPTIONS") return new Response(null, { status: 204, headers: CORS });
    if (request.method !== "POST") return refuse(405, "only POST is taken here");
    const bearer = /^Bearer (.+)$/.exec(request.headers.get("authorization") ?? "")?.[1];
    const { subject } = await identify(bearer ?? request.headers.get("apikey"), hub.jwtSecret, Date.now());
    const messages = messagesOf(url, await bodyOf(request));
    if (messages === null) return refuse(422, "a message has a topic, an event and a payload");
    for (const { topic, event, payload, private: guarded } of messages) {
      // One that may not be sent is dropped, and 202 answered all the same: so does the platform.
      if (guarded && !await hub.permits("insert", topic, subject)) continue;
      hub.broadcast(`${guarded ? "private" : "public"}:${topic}`, event, payload);
    }
    return new Response(null, { status: 202, headers: CORS });
  }

  return {
    async answer(request, url) {
      const path = url.pathname.slice(PREFIX.length);
      try {
        if (path === "websocket") return await connect(request, url);
        if (/^api\/broadcast(\/|$)/.test(path)) return await broadcast(request, url);
        return refuse(404, "there is nothing at this path");
      } catch (error) {
        if (error instanceof Refused) return refuse(401, error.message);
        options.log({ level: "error", event: "realtime_fault", state: stateOf(error) });
        return refuse(500, "Realtime does not work now");
      }
    },
    close: () => hub.close(),
  };
}

interface Broadcast {
  readonly topic: string;
  readonly event: string;
  readonly payload: unknown;
  readonly private: boolean;
}

async function bodyOf(request: Request): Promise<unknown> {
  let size = 0;
  const parts: Uint8Array<ArrayBuffer>[] = [];
  for await (const part of request.body ?? []) {
    if ((size += part.byteLength) > MAX_BODY) return undefined;
    parts.push(part);
  }
  try {
    return JSON.parse(await new Blob(parts).text());
  } catch {
    return undefined;
  }
}

function messagesOf(url: URL, body: unknown): Broadcast[] | null {
  const one = /^\/realtime\/v1\/api\/broadcast\/([^/]+)\/events\/([^/]+)$/.exec(url.pathname);
  if (one !== null) {
    if (body === undefined) return null;
    const [topic, event] = [decoded(one[1]!), decoded(one[2]!)];
    if (topic === null || event === null) return null;
    return [{ topic, event, payload: body, private: url.searchParams.get("private") === "true" }];
  }
  if (!url.pathname.endsWith("/broadcast") || !isObject(body) || !Array.isArray(body.messages)) return null;
  if (body.messages.length === 0 || body.messages.length > 100) return null;
  const messages: Broadcast[] = [];
  for (const message of body.messages) {
    if (!isObject(message)) return null;
    const { topic, event, payload } = message;
    if (typeof topic !== "string" || topic === "" || typeof event !== "string" || event === "" || !isObject(payload)) {
      return null;
    }
    messages.push({ topic, event, payload, private: message.private === true });
  }
  return messages;
}

function decoded(text: string): string | null {
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}

/** The SQLSTATE or the driver's code of a failure. Never its text: that may quote what was sent. */
function stateOf(error: unknown): string {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === "string" ? code : error instanceof Error ? error.name : "unknown";
}
