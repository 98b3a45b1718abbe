/**
 * What PostgreSQL commits, row by row: logical decoding with its own plug-in, pgoutput, over a temporary slot.
 *
 * The slot lives as long as the connection: what is committed while there is none is seen by nobody, as on the platform.
 */

// deno-lint-ignore no-import-prefix -- the gateway serves projects whose import map is not ours
import postgres from "npm:postgres@3.4.9";
import type { Duplex } from "node:stream";

export interface Relation {
  readonly oid: number;
  readonly schema: string;
  readonly table: string;
  readonly columns: readonly { readonly name: string; readonly key: boolean }[];
}

export type Action = "INSERT" | "UPDATE" | "DELETE";

/** By column: text, null, or undefined for what was not written to the log (a large value that did not change). */
export type Tuple = readonly (string | null | undefined)[];

export interface Change {
  readonly relation: Relation;
  readonly action: Action;
  /** The row as it is now; of a deleted one, its identity. */
  readonly row: Tuple;
  /** What the log says of the row before: its identity, or all of it under REPLICA IDENTITY FULL. */
  readonly old: Tuple | null;
  /** Of the transaction: 32 bits. */
  readonly xid: number;
  /** Milliseconds. */
  readonly committedAt: number;
}

const EPOCH_2000 = Date.UTC(2000, 0, 1);
const BATCH = 500;
const RETRY_MS = 500;
const STATUS_MS = 10_000;
const UTF8 = new TextDecoder();

/** Reads pgoutput's messages (protocol 1). A fault in one throws: then the connection is begun anew. */
export class Decoder {
  #relations = new Map<number, Relation>();
  #committedAt = 0;
  #xid = 0;

  /** The change that this message tells of, if it tells of one. */
  read(bytes: Uint8Array): Change | null {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    switch (String.fromCharCode(bytes[0] ?? 0)) {
      case "B":
        this.#committedAt = EPOCH_2000 + Number(view.getBigInt64(9) / 1000n);
        this.#xid = view.getUint32(17);
        return null;
      case "R":
        this.#relation(bytes, view);
        return null;
      case "I":
        return this.#change("INSERT", bytes, view);
      case "U":
        return this.#change("UPDATE", bytes, view);
      case "D":
        return this.#change("DELETE", bytes, view);
      default: // commit, type, origin, truncate: nothing that a subscriber is told of
        return null;
    }
  }

  #relation(bytes: Uint8Array, view: DataView): void {
    let at = 5;
    const text = () => {
      const end = bytes.indexOf(0, at);
      const read = UTF8.decode(bytes.subarray(at, end));
      at = end + 1;
      return read;
    };
    const schema = text() || "pg_catalog";
    const table = text();
    const count = view.getUint16(at + 1);
    at += 3;
    const columns = Array.from({ length: count }, () => {
      const key = bytes[at++] === 1;
      const column = { key, name: text() };
      at += 8; // type and its modifier: asked of the catalogue
      return column;
    });
    const oid = view.getUint32(1);
    this.#relations.set(oid, { oid, schema, table, columns });
  }

  #change(action: Action, bytes: Uint8Array, view: DataView): Change {
    const relation = this.#relations.get(view.getUint32(1));
    if (relation === undefined) throw new Error("a change of an unknown relation");
    let at = 5;
    const tuple = (): Tuple => {
      const count = view.getUint16(at);
      at += 2;
      return Array.from({ length: count }, () => {
        const kind = bytes[at++];
        if (kind === 0x6e) return null;
        if (kind === 0x75) return undefined;
        const length = view.getUint32(at);
        at += 4 + length;
        return UTF8.decode(bytes.subarray(at - length, at));
      });
    };
    const next = () => String.fromCharCode(bytes[at++] ?? 0);
    let kind = next();
    let old: Tuple | null = null;
    if (kind === "K" || kind === "O") {
      old = tuple();
      if (kind === "K") old = old.map((value, index) => relation.columns[index]?.key ? value : undefined);
      if (action !== "DELETE") kind = next();
    }
    const row = action === "DELETE" ? old ?? [] : tuple();
    // An update that leaves the identity as it was says nothing of it; Realtime always does.
    old ??= action === "UPDATE" ? row.map((value, index) => relation.columns[index]?.key ? value : undefined) : null;
    return { relation, action, row, old, xid: this.#xid, committedAt: this.#committedAt };
  }
}

export interface StreamOptions {
  readonly url: string;
  readonly publication: string;
  /** Told of changes in the order of their commits; the next ones come when it is done. */
  deliver(changes: Change[]): Promise<void>;
  /** It is connected: everything committed from now on is seen. */
  connected(): void;
  log(line: Record<string, unknown>): void;
}

/** A reader of the log that connects while it is wanted, and again whenever it must. */
export class ChangeStream {
  #wanted = false;
  #running: Promise<void> | null = null;
  #stop: (() => void) | null = null;
  live = false;

  constructor(readonly options: StreamOptions) {}

  start(): void {
    this.#wanted = true;
    this.#running ??= this.#run().finally(() => {
      this.#running = null;
      if (this.#wanted) this.start();
    });
  }

  async stop(): Promise<void> {
    this.#wanted = false;
    this.live = false; // whoever comes while it ends waits for the next connection
    this.#stop?.();
    await this.#running;
  }

  async #run(): Promise<void> {
    let told = false;
    while (this.#wanted) {
      try {
        await this.#read(() => told = false);
        continue; // it was stopped, and perhaps wanted again
      } catch (error) {
        const code = (error as { code?: unknown } | null)?.code;
        if (!told) this.options.log({ level: "warning", event: "realtime_disconnected", state: String(code) });
        told = true; // once for each time that it is away
      } finally {
        this.live = false;
      }
      if (this.#wanted) await this.#pause();
    }
  }

  #pause(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, RETRY_MS);
      this.#stop = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  async #read(connected: () => void): Promise<void> {
    const { promise: ended, resolve, reject } = Promise.withResolvers<void>();
    ended.catch(() => {});
    this.#stop = resolve;
    const lost = () => reject(Object.assign(new Error("the connection was lost"), { code: "CONNECTION_LOST" }));
    const sql = postgres(this.options.url, {
      max: 1,
      fetch_types: false,
      idle_timeout: 0,
      max_lifetime: null,
      connect_timeout: 5,
      backoff: false,
      onnotice: () => {},
      onclose: lost,
      connection: {
        replication: "database",
        application_name: "realtime",
        statement_timeout: 0,
      } as unknown as Record<string, string>,
    });
    let timer: ReturnType<typeof setInterval> | undefined;
    let stream: Duplex | undefined;
    try {
      const slot = `ipai_realtime_${crypto.randomUUID().replaceAll("-", "")}`;
      // The replication protocol knows its words in capitals only.
      const begin = (async () => {
        const [made] = await sql.unsafe(`CREATE_REPLICATION_SLOT ${slot} TEMPORARY LOGICAL pgoutput NOEXPORT_SNAPSHOT`);
        return await sql.unsafe(
          `START_REPLICATION SLOT ${slot} LOGICAL ${made!.consistent_point} ` +
            `(proto_version '1', publication_names '${this.options.publication}')`,
        ).writable() as Duplex; // what is copied in goes both ways
      })();
      begin.catch(() => {});
      const begun = await Promise.race([begin, ended]);
      if (begun === undefined) return;
      stream = begun;
      begun.on("error", lost);
      begun.on("close", lost);
      this.live = true;
      connected();
      this.options.connected();

      const decoder = new Decoder();
      const pending: Change[] = [];
      let seen = 0n; // of the log, up to here
      let done = 0n;
      let pumping = false;
      const status = () => {
        const said = new DataView(new ArrayBuffer(34));
        said.setUint8(0, 0x72);
        for (const at of [1, 9, 17]) said.setBigUint64(at, done);
        said.setBigInt64(25, BigInt(Date.now() - EPOCH_2000) * 1000n);
        begun.write(new Uint8Array(said.buffer));
      };
      const pump = async () => {
        if (pumping) return;
        pumping = true;
        while (pending.length > 0) await this.options.deliver(pending.splice(0, BATCH));
        done = seen;
        pumping = false;
        begun.resume();
      };
      begun.on("data", (bytes: Uint8Array) => {
        try {
          const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
          if (bytes[0] === 0x77) {
            seen = view.getBigUint64(1) || seen;
            const change = decoder.read(bytes.subarray(25));
            if (change !== null) pending.push(change);
            if (pending.length >= BATCH) begun.pause();
            if (pending.length > 0) pump().catch(reject);
            else if (!pumping) done = seen;
          } else if (bytes[0] === 0x6b) {
            seen = view.getBigUint64(1);
            if (pending.length === 0 && !pumping) done = seen;
            if (bytes[17] === 1) status();
          }
        } catch (error) {
          reject(error);
        }
      });
      timer = setInterval(status, STATUS_MS);
      await ended;
    } finally {
      clearInterval(timer);
      stream?.end();
      // The connection may be one that never answers again.
      await sql.end({ timeout: 1 }).catch(() => {});
    }
  }
}
