/** Realtime's pure parts: frames of both versions, PostgreSQL's log, filters, tokens. */

import assert from "node:assert/strict";
import { identify, parseFilters, Refused, wishesOf } from "../../../harness/ipai_harness/stack/realtime_channel.ts";
import { frame, FrameFault, parseFrame } from "../../../harness/ipai_harness/stack/realtime_frames.ts";
import { Decoder } from "../../../harness/ipai_harness/stack/realtime_wal.ts";

const utf8 = new TextEncoder();

Deno.test("a frame of each version says the same", () => {
  const said = { topic: "realtime:x", event: "phx_join", payload: { a: 1 }, ref: "2", join_ref: "1" };
  const expected = { topic: "realtime:x", event: "phx_join", payload: { a: 1 }, ref: "2", joinRef: "1" };
  assert.deepEqual(parseFrame(JSON.stringify(said), "1.0.0"), expected);
  assert.deepEqual(parseFrame(JSON.stringify(["1", "2", "realtime:x", "phx_join", { a: 1 }]), "2.0.0"), expected);
  assert.equal(parseFrame('{"topic":"phoenix","event":"heartbeat","payload":null,"ref":null}', "1.0.0").ref, null);
});

Deno.test("a frame goes out with every digit", () => {
  const message = { topic: 'a"b', event: "e", payload: '{"n":9007199254740993}' };
  assert.equal(frame("1.0.0", message), '{"topic":"a\\"b","event":"e","payload":{"n":9007199254740993},"ref":null}');
  assert.equal(frame("2.0.0", { ...message, ref: "1" }), '[null,"1","a\\"b","e",{"n":9007199254740993}]');
});

Deno.test("a binary broadcast is read, and cut anywhere it is refused", () => {
  const [names, payload] = [["1", "2", "realtime:x", "said"], utf8.encode('{"n":1}')];
  const bytes = new Uint8Array([
    3,
    ...names.map(({ length }) => length),
    0,
    1,
    ...utf8.encode(names.join("")),
    ...payload,
  ]);
  const { topic, event, payload: said, joinRef } = parseFrame(bytes.buffer, "2.0.0");
  assert.deepEqual([topic, event, joinRef], ["realtime:x", "broadcast", "1"]);
  assert.deepEqual(said, { type: "broadcast", event: "said", payload: { n: 1 } });
  assert.throws(() => parseFrame(bytes.buffer, "1.0.0"), FrameFault);
  for (let length = 0; length < bytes.length; length += 1) {
    assert.throws(() => parseFrame(bytes.slice(0, length).buffer, "2.0.0"), FrameFault);
  }
});

Deno.test("what is no frame", () => {
  for (const version of ["1.0.0", "2.0.0"] as const) {
    for (
      const data of ["", "{", "null", "[]", "1", "{}", '["a"]', "[".repeat(100_000), "x".repeat(2_000_000), 7, null]
    ) {
      assert.throws(() => parseFrame(data, version), FrameFault);
    }
  }
});

Deno.test("filters", () => {
  assert.deepEqual(parseFilters("id=eq.1"), [{ column: "id", operator: "eq", value: "1" }]);
  assert.deepEqual(parseFilters("a=in.(x,y),b=gte.2"), [
    { column: "a", operator: "in", value: "{x,y}" },
    { column: "b", operator: "gte", value: "2" },
  ]);
  for (const bad of ["", "id", "id=1", "id=like.x", "=eq.1", "a=in.x", 'a=in.("x")', "a=in.({x})", "a=eq.1,b"]) {
    assert.equal(parseFilters(bad), null, bad);
  }
});

Deno.test("wishes are checked one by one", () => {
  const { bindings, echo } = wishesOf({ config: { postgres_changes: [{ event: "*", schema: "odoo", other: 1 }] } });
  assert.equal(bindings[0]!.table, "*");
  assert.deepEqual(echo, [{ event: "*", schema: "odoo", id: bindings[0]!.id }]);
  assert.ok(bindings[0]!.id > 0);
  for (
    const bad of [
      1,
      {},
      [1],
      [{}],
      [{ event: "DROP" }],
      [{ event: "*", schema: 1 }],
      [{ event: "*", filter: "x" }],
      [{ event: "*", select: "x" }],
      Array(101).fill({ event: "*" }),
    ]
  ) {
    assert.throws(() => wishesOf({ config: { postgres_changes: bad } }), Refused);
  }
});

Deno.test("who is nobody", async () => {
  for (const token of [undefined, null, 1, "", "a.b.c", "x"]) {
    await assert.rejects(identify(token, "a secret", 0), Refused);
  }
});

/** A message of pgoutput, of bytes, texts that end in 0, and numbers of 2 and 4 bytes. */
function message(...parts: (string | Uint8Array | { u16: number } | { u32: number } | { u8: number })[]): Uint8Array {
  const bytes: number[] = [];
  for (const part of parts) {
    if (typeof part === "string") bytes.push(...utf8.encode(part));
    else if (part instanceof Uint8Array) bytes.push(...part);
    else if ("u8" in part) bytes.push(part.u8);
    else if ("u16" in part) bytes.push(part.u16 >> 8, part.u16 & 255);
    else bytes.push(part.u32 >>> 24, part.u32 >> 16 & 255, part.u32 >> 8 & 255, part.u32 & 255);
  }
  return new Uint8Array(bytes);
}

const column = (key: number, name: string) => [{ u8: key }, `${name}\0`, { u32: 20 }, { u32: 0xffffffff }] as const;
const value = (text: string) => ["t", { u32: utf8.encode(text).length }, text] as const;
const RELATION = message("R", { u32: 7 }, "odoo\0events\0", "d", { u16: 2 }, ...column(1, "id"), ...column(0, "näme"));
const BEGIN = message("B", { u32: 0 }, { u32: 9 }, { u32: 0 }, { u32: 1_000_000 }, { u32: 42 });

Deno.test("the log is read: insert, update, delete", () => {
  const decoder = new Decoder();
  assert.equal(decoder.read(BEGIN), null);
  assert.equal(decoder.read(RELATION), null);
  const inserted = decoder.read(message("I", { u32: 7 }, "N", { u16: 2 }, ...value("1"), ...value("Łódź ☃")))!;
  assert.deepEqual([inserted.action, inserted.row, inserted.old, inserted.xid], ["INSERT", ["1", "Łódź ☃"], null, 42]);
  assert.equal(inserted.relation.columns[1]!.name, "näme");
  assert.equal(inserted.committedAt, Date.UTC(2000, 0, 1) + 1000);
  const updated = decoder.read(message("U", { u32: 7 }, "N", { u16: 2 }, ...value("1"), "u"))!;
  assert.deepEqual([updated.row, updated.old], [["1", undefined], ["1", undefined]]);
  const moved = decoder.read(
    message("U", { u32: 7 }, "K", { u16: 2 }, ...value("1"), "n", "N", { u16: 2 }, ...value("2"), "n"),
  )!;
  assert.deepEqual([moved.row, moved.old], [["2", null], ["1", undefined]]);
  const deleted = decoder.read(message("D", { u32: 7 }, "K", { u16: 2 }, ...value("2"), "n"))!;
  assert.deepEqual([deleted.action, deleted.row, deleted.old], ["DELETE", ["2", undefined], ["2", undefined]]);
  for (const other of ["C", "T", "Y", "O", "M"]) assert.equal(decoder.read(message(other)), null);
});

Deno.test("a change of a relation that it never heard of is a fault", () => {
  assert.throws(() => new Decoder().read(message("I", { u32: 8 }, "N", { u16: 0 })), /unknown relation/);
});
