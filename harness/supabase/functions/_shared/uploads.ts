/**
 * Leave to upload: for each document whose content is wanted, a URL of the storage that takes it, once, at its one path.
 *
 * The service role's key stays here, where the platform put it; Odoo gets URLs that expire. They are given as the storage
 * gives them, without a host: the sender puts them below the address that it knows.
 */

import { Refusal } from "./answers.ts";
import type { Complete } from "./sync.ts";

const BUCKET = "documents";
const TIMEOUT_MS = 8_000;
const AT_ONCE = 8;

interface Wanted {
  readonly id: number;
  readonly path: string;
}

/** Adds `url` to each of an answer's `wanted`, or `error` where another object is in the way. */
export function withUploads(env: (name: string) => string | undefined, send: typeof fetch): Complete {
  return async (answer) => {
    const said = JSON.parse(answer);
    if (!Array.isArray(said.wanted) || said.wanted.length === 0) return answer;
    const [base, key] = [env("SUPABASE_URL"), env("SUPABASE_SERVICE_ROLE_KEY")];
    if (!base || !key) {
      throw new Refusal(
        "not_configured",
        "SUPABASE_URL or SUPABASE_SERVICE_ROLE_KEY is not set, which the platform does",
      );
    }
    const waiting: Wanted[] = [...said.wanted].reverse();
    const signed: Record<number, Record<string, string>> = {};
    const lane = async () => {
      for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
        signed[next.id] = await sign(base, key, next.path, send);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, lane));
    return JSON.stringify({ ...said, wanted: said.wanted.map((one: Wanted) => ({ ...one, ...signed[one.id] })) });
  };
}

async function sign(base: string, key: string, path: string, send: typeof fetch): Promise<Record<string, string>> {
  const encoded = path.split("/").map(encodeURIComponent).join("/");
  let status: number, said: { url?: unknown; error?: unknown };
  try {
    const response = await send(`${base}/storage/v1/object/upload/sign/${BUCKET}/${encoded}`, {
      method: "POST",
      headers: { authorization: `Bearer ${key}`, apikey: key },
      redirect: "error",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    status = response.status;
    said = await response.json();
  } catch {
    throw new Refusal("storage_unavailable");
  }
  if (status === 200 && typeof said.url === "string") return { url: said.url };
  if (said.error === "Duplicate") return { error: "another object is at this path of the bucket" };
  if (status >= 500 || status === 408 || status === 429) throw new Refusal("storage_unavailable");
  throw new Refusal("storage_refused");
}
