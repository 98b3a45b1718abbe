/** One object: brought in, given out, removed. Bytes first, metadata after; the other way round where they go. */

import type { Storage } from "./storage.ts";
import { bodyOf, ownerOf } from "./storage_buckets.ts";
import { DEFAULT_LIMIT, takes, uploadOf } from "./storage_bytes.ts";
import { FAULTS, type StorageFault } from "./storage_faults.ts";
import { type Caller, callerOf, putObject, SERVICE, type StoredObject } from "./storage_metadata.ts";

/** What a request is about. */
export interface Place {
  readonly request: Request;
  readonly url: URL;
  readonly bucket: string;
  readonly name: string;
}

type Handler = (storage: Storage, place: Place) => Promise<Response>;

/** The name of an object that may be. Throws a `StorageFault`. */
export function checkedName(name: string): string {
  const parts = name.split("/");
  if (
    !/^[\w/!.*'() &$@=;:+,?-]{1,1024}$/.test(name) || parts.some((part) => part === "" || part === "." || part === "..")
  ) {
    throw FAULTS.invalidKey(name);
  }
  return name;
}

export function upload(always: boolean): Handler {
  return async (storage, place) => {
    const caller = await callerOf(place.request.headers.get("authorization"), storage.jwtSecret);
    const upsert = always || place.request.headers.get("x-upsert") === "true";
    return Response.json(await receive(storage, place, caller, ownerOf(caller), upsert));
  };
}

/** Takes an upload as the caller may; what the platform answers. */
export async function receive(
  { metadata, bytes }: Storage,
  { request, bucket: id, name: asked }: Place,
  caller: Caller,
  owner: string | null,
  upsert: boolean,
): Promise<{ Id: string; Key: string }> {
  const bucket = await metadata.bucket(id);
  const name = checkedName(asked);
  const version = crypto.randomUUID();
  const object = { bucket: id, name, version, owner, upsert };
  await metadata.rehearse(caller, (sql) => putObject(sql, object, null, null));
  const limit = bucket.file_size_limit === null ? DEFAULT_LIMIT : Number(bucket.file_size_limit);
  const { stream, mimetype, cacheControl, userMetadata } = await uploadOf(request, limit);
  if (!takes(bucket.allowed_mime_types, mimetype)) throw FAULTS.mimeType(mimetype);
  const { size, md5 } = await bytes.write(version, stream, limit);
  const described = {
    eTag: `"${md5}"`,
    size,
    mimetype,
    cacheControl,
    lastModified: new Date().toISOString(),
    contentLength: size,
    httpStatusCode: 200,
  };
  let put;
  try {
    put = await metadata.as(caller, (sql) => putObject(sql, object, described, userMetadata));
  } catch (error) {
    await bytes.remove([version]);
    throw error;
  }
  await bytes.remove([put.replaced]);
  return { Id: put.id, Key: `${id}/${name}` };
}

/** `open`: the bucket must be public, and nobody is asked who they are. `info`: about the object, as JSON. */
export function download({ open = false, info = false }: { open?: boolean; info?: boolean }): Handler {
  return async (storage, place) => {
    const { request, bucket: id, name } = place;
    if (open) {
      const bucket = await storage.metadata.bucket(id);
      if (!bucket.public) throw FAULTS.bucketNotFound();
    }
    const caller = open ? SERVICE : await callerOf(request.headers.get("authorization"), storage.jwtSecret);
    const bucket = await storage.metadata.bucket(id);
    const object = await storage.metadata.object(bucket.public ? SERVICE : caller, id, name);
    return info ? Response.json(described(object)) : await given(storage, place, object);
  };
}

function described(object: StoredObject): Record<string, unknown> {
  const { id, name, version, bucket_id, metadata } = object;
  return {
    id,
    name,
    version,
    bucket_id,
    size: metadata.size,
    content_type: metadata.mimetype,
    cache_control: metadata.cacheControl,
    etag: metadata.eTag,
    metadata: object.user_metadata ?? {},
    last_modified: metadata.lastModified,
    created_at: object.created_at,
  };
}

/** The object's bytes, or the part of them that was asked for. */
export async function given({ bytes }: Storage, { request, url }: Place, object: StoredObject): Promise<Response> {
  const { size, mimetype, cacheControl, eTag, lastModified } = object.metadata;
  const headers = new Headers({
    "content-type": mimetype,
    "cache-control": cacheControl,
    "etag": eTag,
    "last-modified": new Date(lastModified).toUTCString(),
    "accept-ranges": "bytes",
    // Whatever was stored is not to become a page of this origin.
    "x-content-type-options": "nosniff",
  });
  const named = url.searchParams.get("download");
  if (named !== null) {
    headers.set("content-disposition", `attachment;${named ? ` filename*=UTF-8''${encodeURIComponent(named)};` : ""}`);
  }
  if (request.headers.get("if-none-match") === eTag) return new Response(null, { status: 304, headers });
  const range = rangeOf(request.headers.get("range"), size);
  if (range !== null) headers.set("content-range", `bytes ${range.start}-${range.start + range.length - 1}/${size}`);
  const { start, length } = range ?? { start: 0, length: size };
  headers.set("content-length", String(length));
  const empty = request.method === "HEAD" || length === 0;
  const body = empty ? null : await bytes.read(object.version, start, length);
  return new Response(body, { status: range === null ? 200 : 206, headers });
}

/** The one range that is asked for; null where none is, or several are: then everything is given. */
export function rangeOf(header: string | null, size: number): { start: number; length: number } | null {
  const match = /^bytes=([0-9]{0,15})-([0-9]{0,15})$/.exec(header ?? "");
  if (match === null || (match[1] === "" && match[2] === "")) return null;
  const last = match[1] !== "" && match[2] !== "" ? Math.min(Number(match[2]), size - 1) : size - 1;
  const start = match[1] === "" ? Math.max(0, size - Number(match[2])) : Number(match[1]);
  if (start > last) throw FAULTS.invalidRange();
  return { start, length: last - start + 1 };
}

export async function removeMany(storage: Storage, { request, bucket }: Place): Promise<Response> {
  const caller = await callerOf(request.headers.get("authorization"), storage.jwtSecret);
  const { prefixes } = await bodyOf(request);
  if (!Array.isArray(prefixes) || prefixes.length === 0 || prefixes.length > 1000) {
    throw FAULTS.invalidRequest("body/prefixes must NOT have fewer than 1 items, nor more than 1000");
  }
  return Response.json(await removed(storage, caller, bucket, prefixes.map(String)));
}

export async function remove(storage: Storage, { request, bucket, name }: Place): Promise<Response> {
  const caller = await callerOf(request.headers.get("authorization"), storage.jwtSecret);
  const found = await removed(storage, caller, bucket, [name]);
  if (found.length === 0) throw FAULTS.objectNotFound() as StorageFault;
  return Response.json({ message: "Successfully deleted" });
}

async function removed({ metadata, bytes }: Storage, caller: Caller, bucket: string, names: string[]) {
  await metadata.bucket(bucket);
  const gone = await metadata.as(caller, (sql) =>
    sql<(StoredObject & Record<string, unknown>)[]>`
    delete from storage.objects where bucket_id = ${bucket} and name in ${sql(names)}
    returning id, name, bucket_id, owner_id as owner, version, created_at, updated_at, last_accessed_at, metadata`);
  await bytes.remove(gone.map(({ version }) => version));
  return [...gone];
}
