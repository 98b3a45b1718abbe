/** The raw body: never more than the limit in memory, never later than the deadline. */

import { Refusal } from "./answers.ts";

export const MAX_BODY = 1_048_576;
export const BODY_TIMEOUT_MS = 30_000;

/** The body's bytes, as they came. Throws `payload_too_large`, `body_timeout` or `body_incomplete`. */
export async function readBody(
  request: Request,
  limit: number = MAX_BODY,
  timeoutMs: number = BODY_TIMEOUT_MS,
): Promise<Uint8Array<ArrayBuffer>> {
  const declared = request.headers.get("content-length");
  // What is not a number is left to the count below.
  if (declared !== null && /^[0-9]+$/.test(declared) && Number(declared) > limit) {
    throw new Refusal("payload_too_large");
  }
  if (request.body === null) return new Uint8Array();

  const reader = request.body.getReader();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Refusal("body_timeout")), timeoutMs);
  });
  const chunks: Uint8Array[] = [];
  let size = 0;
  try {
    while (true) {
      const { done, value } = await Promise.race([reader.read(), late]);
      if (done) break;
      size += value.byteLength;
      if (size > limit) throw new Refusal("payload_too_large");
      chunks.push(value);
    }
  } catch (error) {
    // Not awaited: the other end may be gone, or never send another byte.
    reader.cancel().catch(() => {});
    throw error instanceof Refusal ? error : new Refusal("body_incomplete");
  } finally {
    clearTimeout(timer);
  }

  const body = new Uint8Array(size);
  let offset = 0;
  for (const chunk of chunks) {
    body.set(chunk, offset);
    offset += chunk.byteLength;
  }
  return body;
}
