/**
 * Every exchange with a function, as evidence: one line of JSON each, in a file that only the harness reads.
 *
 * It holds what was sent and what was answered, headers and bodies, so whoever shows it masks it first. A body is kept up
 * to its limit, in base64: it may be any bytes.
 */

const MAX_REQUEST = 65_536;
const MAX_ANSWER = 8_192;

type Handler = (request: Request, info?: unknown) => Promise<Response>;

/** The same handler, whose exchanges below `prefix` are appended to `file`. */
export function recorded(handler: Handler, prefix: string, file: string): Handler {
  let writing = Promise.resolve();

  return async (request, info) => {
    const url = new URL(request.url);
    if (!url.pathname.startsWith(prefix)) return await handler(request, info);
    const at = Date.now();
    const started = performance.now();
    const sent = request.clone();
    const response = await handler(request, info);
    const ms = performance.now() - started;
    const answered = response.clone();
    const line = Promise.all([start(sent.body, MAX_REQUEST), start(answered.body, MAX_ANSWER)]).then((
      [body, answer],
    ) => ({
      at,
      ms: Math.round(ms * 10) / 10,
      method: request.method,
      path: url.pathname,
      headers: Object.fromEntries(sent.headers),
      body,
      status: answered.status,
      answer_headers: Object.fromEntries(answered.headers),
      answer,
    }));
    void line.then((whole) => {
      // One after the other: two lines never mix.
      writing = writing.then(async () => {
        try {
          await Deno.writeTextFile(file, JSON.stringify(whole) + "\n", { append: true, mode: 0o600 });
        } catch (error) {
          console.error(`an exchange could not be recorded: ${error instanceof Error ? error.name : "unknown"}`);
        }
      });
    });
    return response;
  };
}

async function start(
  stream: ReadableStream<Uint8Array> | null,
  limit: number,
): Promise<{ base64: string; size: number }> {
  const kept: Uint8Array[] = [];
  let size = 0;
  try {
    for await (const chunk of stream ?? []) {
      if (size < limit) kept.push(chunk.subarray(0, limit - size));
      size += chunk.byteLength;
    }
  } catch {
    // It ended early: what came is what there is.
  }
  let text = "";
  for (const chunk of kept) for (const byte of chunk) text += String.fromCharCode(byte);
  return { base64: btoa(text), size };
}
