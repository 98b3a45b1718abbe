/** One client: its connection, and the channels that it has joined over it. */

import { identify, type Identity, Refused, type Wishes, wishesOf } from "./realtime_channel.ts";
import { frame, FrameFault, isObject, MAX_FRAME, type Message, parseFrame, type Version } from "./realtime_frames.ts";
import type { Subscriber } from "./realtime_rows.ts";
import type { Hub } from "./realtime.ts";

const PREFIX = "realtime:";
const MAX_CHANNELS = 100;
/** What a client has not read yet, in bytes; and what it has said that was not looked at yet, in frames. */
const MAX_UNREAD = 4 * MAX_FRAME;
const MAX_WAITING = 500;
const MAX_TIMER_MS = 2_147_483_647;

const OK = `{"status":"ok","response":{}}`;

/** A channel that is joined. */
export interface Channel extends Subscriber {
  /** As it is known to the hub: the private channel of a name is another one than the public. */
  readonly key: string;
  readonly topic: string;
  readonly joinRef: string | null;
  readonly wishes: Wishes;
  identity: Identity;
  presence: { readonly ref: string; readonly meta: Record<string, unknown> } | null;
  timer?: ReturnType<typeof setTimeout>;
  push(event: string, payload: string): void;
  /** Changes are seen from now on; or why they never will be. */
  subscribed(fault: string | null): void;
}

export class Client {
  readonly #channels = new Map<string, Channel>();
  #waiting = 0;
  #turn: Promise<void> = Promise.resolve();
  #gone = false;

  constructor(
    readonly socket: WebSocket,
    readonly version: Version,
    readonly apikey: string,
    readonly hub: Hub,
  ) {
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => this.#hear(data);
    socket.onclose = () => this.leave();
    socket.onerror = () => this.leave();
  }

  /** Closes the connection, and forgets everything of it. */
  leave(code = 1000, reason = ""): void {
    if (this.#gone) return;
    this.#gone = true;
    for (const topic of [...this.#channels.keys()]) this.#part(topic);
    this.hub.clients.delete(this);
    try {
      this.socket.close(code, reason);
    } catch {
      // It is closed.
    }
  }

  #hear(data: unknown): void {
    if (this.#gone) return;
    if (this.#waiting >= MAX_WAITING) return this.leave(1008, "more frames than can be answered");
    this.#waiting += 1;
    // One after the other: a message may change what the next one means.
    this.#turn = this.#turn.then(() => this.#answer(data)).catch((error) => {
      if (!(error instanceof FrameFault)) {
        this.hub.log({
          level: "error",
          event: "realtime_fault",
          fault: error instanceof Error ? error.name : "unknown",
        });
      }
      this.leave(error instanceof FrameFault ? 1007 : 1011, error instanceof FrameFault ? error.message : "");
    }).finally(() => this.#waiting -= 1);
  }

  async #answer(data: unknown): Promise<void> {
    if (this.#gone) return;
    const message = parseFrame(data, this.version);
    const { topic, event } = message;
    if (topic === "phoenix") {
      if (event === "heartbeat") this.#reply(message, OK);
      return;
    }
    try {
      if (event === "phx_join") return await this.#join(message);
      const channel = this.#channels.get(topic);
      if (channel === undefined) throw new Refused("unmatched topic");
      // A frame of an earlier join of the same topic.
      if (message.joinRef !== null && message.joinRef !== channel.joinRef) return;
      if (event === "phx_leave") {
        this.#part(topic);
        this.#reply(message, OK);
        this.#send({ ...message, ref: message.joinRef, event: "phx_close", payload: "{}" });
      } else if (event === "access_token") await this.#identifyAgain(channel, message);
      else if (event === "broadcast") await this.#broadcast(channel, message);
      else if (event === "presence") this.#presence(channel, message);
      else throw new Refused("unmatched event");
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.#reply(message, JSON.stringify({ status: "error", response: { reason: error.message } }));
    }
  }

  async #join(message: Message): Promise<void> {
    const { topic } = message;
    if (!topic.startsWith(PREFIX) || topic === PREFIX) throw new Refused("the topic must be realtime: and a name");
    if (this.#channels.size >= MAX_CHANNELS && !this.#channels.has(topic)) {
      throw new Refused("ChannelRateLimitReached: Too many channels");
    }
    const wishes = wishesOf(message.payload);
    const token = message.payload.access_token ?? message.payload.user_token ?? this.apikey;
    const identity = await identify(token, this.hub.jwtSecret, Date.now());
    const name = topic.slice(PREFIX.length);
    if (wishes.private && !await this.hub.permits("select", name, identity.subject)) {
      throw new Refused(`Unauthorized: You do not have permissions to read from this Channel topic: ${name}`);
    }
    if (this.#gone) return;
    this.#part(topic);
    const channel = this.#channel(message, wishes, identity);
    this.#channels.set(topic, channel);
    this.#expire(channel);
    this.#reply(message, JSON.stringify({ status: "ok", response: { postgres_changes: wishes.echo } }));
    this.hub.enter(channel);
    if (wishes.presence.enabled) channel.push("presence_state", JSON.stringify(this.hub.present(channel.key)));
  }

  #channel({ topic, joinRef, ref }: Message, wishes: Wishes, identity: Identity): Channel {
    const name = topic.slice(PREFIX.length);
    const send = (event: string, payload: string) =>
      this.#send({ topic, event, payload, joinRef: event === "postgres_changes" ? null : channel.joinRef });
    const channel: Channel = {
      key: `${wishes.private ? "private" : "public"}:${name}`,
      topic,
      joinRef: joinRef ?? ref,
      wishes,
      identity,
      presence: null,
      bindings: wishes.bindings,
      get subject() {
        return channel.identity.subject;
      },
      push: send,
      tell: (ids, data) => {
        // It may have been left, or joined anew, while its rows were looked at.
        if (this.#channels.get(topic) === channel) {
          send("postgres_changes", `{"ids":${JSON.stringify(ids)},"data":${data}}`);
        }
      },
      subscribed: (fault) => {
        if (this.#channels.get(topic) !== channel) return;
        const [status, message] = fault === null
          ? ["ok", "Subscribed to PostgreSQL"]
          : ["error", `Unable to subscribe to changes with given parameters. ${fault}`];
        send("system", JSON.stringify({ channel: name, extension: "postgres_changes", message, status }));
      },
    };
    return channel;
  }

  #part(topic: string): void {
    const channel = this.#channels.get(topic);
    if (channel === undefined) return;
    this.#channels.delete(topic);
    clearTimeout(channel.timer);
    this.hub.exit(channel);
  }

  #expire(channel: Channel): void {
    clearTimeout(channel.timer);
    const { ends } = channel.identity;
    if (ends === null) return;
    const left = ends - Date.now();
    channel.timer = setTimeout(() => {
      if (left > MAX_TIMER_MS) this.#expire(channel);
      else this.#close(channel, "Token has expired");
    }, Math.max(0, Math.min(left, MAX_TIMER_MS)));
  }

  #close(channel: Channel, message: string): void {
    if (this.#channels.get(channel.topic) !== channel) return;
    const name = channel.topic.slice(PREFIX.length);
    this.#part(channel.topic);
    channel.push("system", JSON.stringify({ channel: name, extension: "system", message, status: "error" }));
    this.#send({ ...channel, ref: channel.joinRef, event: "phx_close", payload: "{}" });
  }

  async #identifyAgain(channel: Channel, { payload }: Message): Promise<void> {
    const token = payload.access_token;
    if (token === null || token === undefined) return;
    try {
      const identity = await identify(token, this.hub.jwtSecret, Date.now());
      const name = channel.topic.slice(PREFIX.length);
      if (channel.wishes.private && !await this.hub.permits("select", name, identity.subject)) {
        throw new Refused("Unauthorized: You do not have permissions to read from this Channel topic");
      }
      channel.identity = identity;
      this.#expire(channel);
      this.hub.watch(channel); // what was refused to who it was may be allowed now
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.#close(channel, error.message);
    }
  }

  async #broadcast(channel: Channel, message: Message): Promise<void> {
    const { event, payload } = message.payload;
    if (typeof event !== "string") throw new Refused("a broadcast has an event");
    const name = channel.topic.slice(PREFIX.length);
    if (channel.wishes.private && !await this.hub.permits("insert", name, channel.subject)) {
      throw new Refused("Unauthorized: You do not have permissions to write to this Channel topic");
    }
    this.hub.broadcast(channel.key, event, payload, channel.wishes.broadcast.self ? null : channel);
    if (channel.wishes.broadcast.ack) this.#reply(message, OK);
  }

  #presence(channel: Channel, message: Message): void {
    const { event, payload } = message.payload;
    if (event === "track") {
      this.hub.track(channel, { ref: crypto.randomUUID(), meta: isObject(payload) ? payload : {} });
    } else if (event === "untrack") this.hub.track(channel, null);
    else throw new Refused("an event of presence is track or untrack");
    this.#reply(message, OK);
  }

  #reply({ topic, ref, joinRef }: Message, payload: string): void {
    this.#send({ topic, ref, joinRef, event: "phx_reply", payload });
  }

  #send(message: Parameters<typeof frame>[1]): void {
    if (this.#gone || this.socket.readyState !== WebSocket.OPEN) return;
    // A client that does not read is let go before what waits for it fills the memory.
    if (this.socket.bufferedAmount > MAX_UNREAD) return this.leave(1013, "too much was not read");
    this.socket.send(frame(this.version, message));
  }
}
