/**
 * The objects' bytes, in one directory. A file is named by the object's version, a random UUID, never by anything that a
 * request says. It is written under another name, brought to the disk and renamed, before any metadata names it.
 */

import { createHash } from "node:crypto";
import { FAULTS } from "./storage_faults.ts";

/** The platform's limit where a bucket sets none. */
export const DEFAULT_LIMIT = 52_428_800;
/** What a form holds beside its file. */
const FORM_ROOM = 1_048_576;

export interface Upload {
  readonly stream: ReadableStream<Uint8Array>;
  readonly mimetype: string;
  readonly cacheControl: string;
  readonly userMetadata: Record<string, unknown> | null;
}

export interface Written {
  readonly size: number;
  readonly md5: string;
}

export class Bytes {
  constructor(readonly directory: string) {}

  /** Makes the directory, and clears what a crash left half written. */
  async open(): Promise<void> {
    await Deno.mkdir(this.directory, { recursive: true, mode: 0o700 });
    for await (const { name } of Deno.readDir(this.directory)) {
      if (name.endsWith(".part")) await this.#remove(name);
    }
  }

  /** Writes a version. Throws a `StorageFault` if there are more than `limit` bytes; then nothing is left. */
  async write(version: string, stream: ReadableStream<Uint8Array>, limit: number): Promise<Written> {
    const part = this.#path(`${version}.part`);
    const file = await Deno.open(part, { write: true, createNew: true, mode: 0o600 });
    const hash = createHash("md5");
    let size = 0;
    try {
      for await (const chunk of stream) {
        size += chunk.byteLength;
        if (size > limit) throw FAULTS.tooLarge();
        hash.update(chunk);
        for (let at = 0; at < chunk.byteLength;) at += await file.write(chunk.subarray(at));
      }
      await file.sync();
      file.close();
      await Deno.rename(part, this.#path(version));
    } catch (error) {
      try {
        file.close();
      } catch {
        // It is closed already.
      }
      await this.#remove(`${version}.part`);
      throw error;
    }
    return { size, md5: hash.digest("hex") };
  }

  /** `length` bytes of a version, from `start` on. */
  async read(version: string, start: number, length: number): Promise<ReadableStream<Uint8Array>> {
    const file = await Deno.open(this.#path(version), { read: true });
    await file.seek(start, Deno.SeekMode.Start);
    let left = length;
    return file.readable.pipeThrough(
      new TransformStream({
        transform(chunk, out) {
          const wanted = chunk.subarray(0, left);
          left -= wanted.byteLength;
          if (wanted.byteLength > 0) out.enqueue(wanted);
          if (left === 0) out.terminate();
        },
      }),
    );
  }

  async copy(from: string, to: string): Promise<void> {
    await this.write(to, (await Deno.open(this.#path(from), { read: true })).readable, Infinity);
  }

  /** Removes versions that no metadata names any more. */
  async remove(versions: Iterable<string | null>): Promise<void> {
    for (const version of versions) if (version !== null) await this.#remove(version);
  }

  async #remove(name: string): Promise<void> {
    await Deno.remove(this.#path(name)).catch(() => {});
  }

  #path(name: string): string {
    if (!/^[0-9a-f-]{36}(\.part)?$/.test(name)) throw new Error("not a version");
    return `${this.directory}/${name}`;
  }
}

/** What a request uploads: a form with one file, or its body as it is. Throws a `StorageFault`. */
export async function uploadOf(request: Request, limit: number): Promise<Upload> {
  const type = request.headers.get("content-type") ?? "application/octet-stream";
  if (Number(request.headers.get("content-length") ?? 0) > limit + FORM_ROOM) throw FAULTS.tooLarge();
  if (!/^multipart\/form-data\s*;/i.test(type)) {
    const metadata = request.headers.get("x-metadata");
    return {
      stream: request.body ?? new Blob().stream(),
      mimetype: type,
      cacheControl: request.headers.get("cache-control") ?? "no-cache",
      userMetadata: metadata === null ? null : objectOf(() => atob(metadata)),
    };
  }
  const form = await formOf(request, type, limit + FORM_ROOM);
  const file = [...form.values()].find((value) => value instanceof File);
  if (file === undefined) throw FAULTS.invalidRequest("No content provided");
  const [age, metadata] = [form.get("cacheControl"), form.get("metadata")];
  return {
    stream: file.stream(),
    mimetype: file.type || "application/octet-stream",
    cacheControl: typeof age === "string" && /^[0-9]{1,9}$/.test(age) ? `max-age=${age}` : "no-cache",
    userMetadata: typeof metadata === "string" ? objectOf(() => metadata) : null,
  };
}

async function formOf(request: Request, type: string, limit: number): Promise<FormData> {
  let size = 0;
  const counted = (request.body ?? new Blob().stream()).pipeThrough(
    new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, out) {
        size += chunk.byteLength;
        if (size > limit) out.error(FAULTS.tooLarge());
        else out.enqueue(chunk);
      },
    }),
  );
  try {
    return await new Response(counted, { headers: { "content-type": type } }).formData();
  } catch {
    throw size > limit ? FAULTS.tooLarge() : FAULTS.invalidRequest("the form cannot be read");
  }
}

function objectOf(text: () => string): Record<string, unknown> {
  try {
    const value = JSON.parse(text());
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  } catch {
    // Said below.
  }
  throw FAULTS.invalidRequest("metadata must be a JSON object");
}

/** Whether a bucket that takes these types takes this one. */
export function takes(allowed: readonly string[] | null, mimetype: string): boolean {
  const plain = (mimetype.split(";")[0] ?? "").trim().toLowerCase();
  return allowed === null || allowed.length === 0 || allowed.some((entry) => {
    const wanted = entry.trim().toLowerCase();
    return wanted === "*/*" || wanted === plain || (wanted.endsWith("/*") && plain.startsWith(wanted.slice(0, -1)));
  });
}
