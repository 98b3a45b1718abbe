/** Phoenix's frames, as the clients of Realtime write and read them: version 1.0.0, an object, and 2.0.0, an array. */

export type Version = "1.0.0" | "2.0.0";

export interface Message {
  readonly joinRef: string | null;
  readonly ref: string | null;
  readonly topic: string;
  readonly event: string;
  readonly payload: Record<string, unknown>;
}

export const MAX_FRAME = 1_048_576;
const MAX_NAME = 255;
const USER_BROADCAST_PUSH = 3;
const JSON_ENCODING = 1;

/** A frame that is not one, or says what it may not. */
export class FrameFault extends Error {}

/** What a frame says. Throws `FrameFault`, and nothing else. */
export function parseFrame(data: unknown, version: Version): Message {
  try {
    if (data instanceof ArrayBuffer) return parseBinary(new Uint8Array(data), version);
    if (typeof data !== "string" || data.length > MAX_FRAME) throw new FrameFault("the frame is too large");
    const said: unknown = JSON.parse(data);
    if (version === "2.0.0") {
      if (!Array.isArray(said) || said.length !== 5) throw new FrameFault("a frame is an array of five");
      return checked(said[0], said[1], said[2], said[3], said[4]);
    }
    if (!isObject(said)) throw new FrameFault("a frame is an object");
    return checked(said.join_ref, said.ref, said.topic, said.event, said.payload);
  } catch (error) {
    throw error instanceof FrameFault ? error : new FrameFault("the frame is not JSON");
  }
}

/** A frame for a client. `payload` is the text of a JSON object: what came out of PostgreSQL keeps every digit. */
export function frame(
  version: Version,
  { joinRef = null, ref = null, topic, event, payload }:
    & Pick<Message, "topic" | "event">
    & Partial<Pick<Message, "joinRef" | "ref">>
    & { payload: string },
): string {
  const [t, e, r, j] = [topic, event, ref, joinRef].map((part) => JSON.stringify(part));
  return version === "2.0.0"
    ? `[${j},${r},${t},${e},${payload}]`
    : `{"topic":${t},"event":${e},"payload":${payload},"ref":${r}}`;
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function checked(joinRef: unknown, ref: unknown, topic: unknown, event: unknown, payload: unknown): Message {
  const name = (value: unknown) => typeof value === "string" && value.length > 0 && value.length <= MAX_NAME;
  const reference = (value: unknown) =>
    value === undefined || value === null || (typeof value === "string" && value.length <= MAX_NAME);
  if (!name(topic) || !name(event)) throw new FrameFault("topic and event are text of 1 to 255 characters");
  if (!reference(joinRef) || !reference(ref)) throw new FrameFault("a reference is text, or null");
  return {
    joinRef: (joinRef ?? null) as string | null,
    ref: (ref ?? null) as string | null,
    topic: topic as string,
    event: event as string,
    payload: isObject(payload) ? payload : {},
  };
}

/** A broadcast as version 2.0.0 sends it: lengths, a byte for the encoding, names, then the payload. */
function parseBinary(bytes: Uint8Array, version: Version): Message {
  if (version !== "2.0.0" || bytes[0] !== USER_BROADCAST_PUSH || bytes.byteLength < 7) {
    throw new FrameFault("a binary frame of an unknown kind");
  }
  if (bytes.byteLength > MAX_FRAME) throw new FrameFault("the frame is too large");
  if (bytes[6] !== JSON_ENCODING) throw new FrameFault("a payload that is not JSON is not taken");
  const text = new TextDecoder("utf-8", { fatal: true });
  let offset = 7;
  const [joinRef, ref, topic, event] = [1, 2, 3, 4].map((at) => {
    const part = bytes.subarray(offset, offset + bytes[at]!);
    offset += part.byteLength;
    return text.decode(part);
  });
  offset += bytes[5]!; // what else the client says of it
  const payload: unknown = JSON.parse(text.decode(bytes.subarray(offset)));
  return checked(joinRef || null, ref || null, topic, "broadcast", { type: "broadcast", event, payload });
}
