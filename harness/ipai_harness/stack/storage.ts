/**
 * The platform's storage, for a harness: buckets and objects as its official clients use them, on `/storage/v1/`.
 *
 * Who asks is who the bearer token says; every statement runs under that role, so the policies on storage.buckets and
 * storage.objects decide. A signed URL is a token under the JWT secret, for one path, one use and a time.
 * Not like the platform: no image transformation, no resumable or S3 uploads, no vectors, no analytics.
 */

import { FAULTS, StorageFault } from "./storage_faults.ts";
import { answerBuckets } from "./storage_buckets.ts";
import { Bytes } from "./storage_bytes.ts";
import { download, type Place, remove, removeMany, upload } from "./storage_objects.ts";
import { copy, list, move } from "./storage_folders.ts";
import { Metadata } from "./storage_metadata.ts";
import { downloadSigned, sign, signMany, signUpload, uploadSigned } from "./storage_signed.ts";

export const STORAGE_PREFIX = "/storage/v1/";
/** Of a body that is refused, this much is read, so that its sender comes to read the answer. */
const DRAINED = 67_108_864;

export interface Storage {
  readonly metadata: Metadata;
  readonly bytes: Bytes;
  readonly jwtSecret: string;
}

type Route = [method: string, pattern: RegExp, answer: (storage: Storage, place: Place) => Promise<Response>];

// The first that fits. What is more special stands first: a bucket may be called "list", and then has its longer paths.
const ROUTES: Route[] = [
  ["POST", /^object\/upload\/sign\/([^/]+)\/(.+)$/, signUpload],
  ["PUT", /^object\/upload\/sign\/([^/]+)\/(.+)$/, uploadSigned],
  ["POST", /^object\/sign\/([^/]+)\/(.+)$/, sign],
  ["POST", /^object\/sign\/([^/]+)$/, signMany],
  ["GET", /^object\/sign\/([^/]+)\/(.+)$/, downloadSigned],
  ["POST", /^object\/list\/([^/]+)$/, list],
  ["POST", /^object\/move$/, move],
  ["POST", /^object\/copy$/, copy],
  ["GET", /^object\/info\/public\/([^/]+)\/(.+)$/, download({ open: true, info: true })],
  ["GET", /^object\/info\/(?:authenticated\/)?([^/]+)\/(.+)$/, download({ info: true })],
  ["GET", /^object\/public\/([^/]+)\/(.+)$/, download({ open: true })],
  ["GET", /^object\/(?:authenticated\/)?([^/]+)\/(.+)$/, download({})],
  ["POST", /^object\/([^/]+)\/(.+)$/, upload(false)],
  ["PUT", /^object\/([^/]+)\/(.+)$/, upload(true)],
  ["DELETE", /^object\/([^/]+)$/, removeMany],
  ["DELETE", /^object\/([^/]+)\/(.+)$/, remove],
];

/** A handler for everything below the prefix; the bytes go to `directory`, the metadata to the database's schema storage. */
export async function openStorage(
  directory: string,
  databaseUrl: string,
  jwtSecret: string,
  log: (line: Record<string, unknown>) => void,
): Promise<(request: Request) => Promise<Response>> {
  const storage = { metadata: new Metadata(databaseUrl), bytes: new Bytes(directory), jwtSecret };
  await storage.bytes.open();

  return async (request) => {
    try {
      return await answer(storage, request);
    } catch (error) {
      await drain(request);
      if (error instanceof StorageFault) return error.answer();
      log({ level: "error", event: "storage_failed", error: error instanceof Error ? error.name : "unknown" });
      return FAULTS.internal().answer();
    }
  };
}

async function answer(storage: Storage, request: Request): Promise<Response> {
  const url = new URL(request.url);
  const path = url.pathname.slice(STORAGE_PREFIX.length);
  if (/^bucket(\/|$)/.test(path)) return await answerBuckets(storage, request, path);
  const method = request.method === "HEAD" ? "GET" : request.method;
  for (const [wanted, pattern, handle] of ROUTES) {
    const match = wanted === method ? pattern.exec(path) : null;
    if (match === null) continue;
    const [bucket, name] = [decoded(match[1] ?? ""), decoded(match[2] ?? "")];
    return await handle(storage, { request, url, bucket, name });
  }
  throw FAULTS.routeNotFound();
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw FAULTS.invalidKey(part);
  }
}

async function drain(request: Request): Promise<void> {
  if (request.body === null || request.bodyUsed) return;
  let size = 0;
  try {
    for await (const chunk of request.body) {
      size += chunk.byteLength;
      if (size > DRAINED) return;
    }
  } catch {
    // Its sender is gone.
  }
}
