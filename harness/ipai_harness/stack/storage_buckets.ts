/** Buckets: made, listed, changed, emptied, removed, each as the caller's role may. */

import type { Storage } from "./storage.ts";
import { FAULTS } from "./storage_faults.ts";
import { type Caller, callerOf, type Sql } from "./storage_metadata.ts";

const UNITS: Record<string, number> = { B: 1, KB: 1024, MB: 1024 ** 2, GB: 1024 ** 3 };

export async function answerBuckets(storage: Storage, request: Request, path: string): Promise<Response> {
  const caller = await callerOf(request.headers.get("authorization"), storage.jwtSecret);
  const match = /^bucket(?:\/([^/]+)(\/empty)?)?\/?$/.exec(path);
  if (match === null) throw FAULTS.routeNotFound();
  const id = match[1] === undefined ? null : decodeURIComponent(match[1]);
  if (id === null) {
    if (request.method === "GET") return Response.json(await select(storage, caller, null));
    if (request.method === "POST") return await create(storage, caller, await bodyOf(request));
  } else if (match[2] !== undefined) {
    if (request.method === "POST") return await empty(storage, caller, id);
  } else if (request.method === "GET") {
    const [bucket] = await select(storage, caller, id);
    if (bucket === undefined) throw FAULTS.bucketNotFound();
    return Response.json(bucket);
  } else if (request.method === "PUT") {
    return await update(storage, caller, id, await bodyOf(request));
  } else if (request.method === "DELETE") {
    return await remove(storage, caller, id);
  }
  throw FAULTS.routeNotFound();
}

async function select({ metadata }: Storage, caller: Caller, id: string | null): Promise<Record<string, unknown>[]> {
  const rows = await metadata.as(caller, (sql) =>
    sql`
    select id, name, coalesce(owner_id, owner::text, '') as owner, public, file_size_limit::float8, allowed_mime_types,
      created_at, updated_at, 'STANDARD' as type
    from storage.buckets where ${id}::text is null or id = ${id} order by name`);
  return [...rows];
}

async function create({ metadata }: Storage, caller: Caller, body: Record<string, unknown>): Promise<Response> {
  const id = String(body.id ?? body.name ?? "");
  const name = String(body.name ?? id);
  for (const word of [id, name]) {
    if (!/^[\w!.*'() &$@=;:+,?-]{1,100}$/.test(word) || word.trim() !== word) throw FAULTS.invalidBucket();
  }
  await metadata.as(
    caller,
    (sql) =>
      sql`insert into storage.buckets (id, name, owner_id, public, file_size_limit, allowed_mime_types)
      values (${id}, ${name}, ${ownerOf(caller)}, ${body.public === true}, ${limitOf(body)}, ${typesOf(body)})`,
  );
  return Response.json({ name: id });
}

async function update(
  { metadata }: Storage,
  caller: Caller,
  id: string,
  body: Record<string, unknown>,
): Promise<Response> {
  const changed = await metadata.as(caller, (sql) =>
    sql`
    update storage.buckets set updated_at = now(),
      public = coalesce(${typeof body.public === "boolean" ? body.public : null}::boolean, public),
      file_size_limit = ${"file_size_limit" in body ? sql`${limitOf(body)}` : sql`file_size_limit`},
      allowed_mime_types = ${"allowed_mime_types" in body ? sql`${typesOf(body)}` : sql`allowed_mime_types`}
    where id = ${id}`);
  if (changed.count === 0) throw FAULTS.bucketNotFound();
  return Response.json({ message: "Successfully updated" });
}

async function empty({ metadata, bytes }: Storage, caller: Caller, id: string): Promise<Response> {
  const removed = await metadata.as(caller, async (sql) => {
    await lock(sql, id);
    return await sql<{ version: string }[]>`delete from storage.objects where bucket_id = ${id} returning version`;
  });
  await bytes.remove(removed.map(({ version }) => version));
  return Response.json({ message: "Successfully emptied" });
}

async function remove({ metadata }: Storage, caller: Caller, id: string): Promise<Response> {
  await metadata.as(caller, async (sql) => {
    await lock(sql, id);
    const [object] = await sql`select from storage.objects where bucket_id = ${id} limit 1`;
    if (object !== undefined) throw FAULTS.notEmpty();
    await sql`delete from storage.buckets where id = ${id}`;
  });
  return Response.json({ message: "Successfully deleted" });
}

async function lock(sql: Sql, id: string): Promise<void> {
  const [bucket] = await sql`select from storage.buckets where id = ${id} for update`;
  if (bucket === undefined) throw FAULTS.bucketNotFound();
}

/** The body as a JSON object. Throws a `StorageFault`. */
export async function bodyOf(request: Request): Promise<Record<string, unknown>> {
  if (Number(request.headers.get("content-length") ?? 0) > 1_048_576) throw FAULTS.tooLarge();
  const value = await request.json().catch(() => null);
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw FAULTS.invalidRequest("body must be object");
  }
  return value;
}

/** Who an object or a bucket belongs to: the signed-in person; nobody for a key. */
export function ownerOf(caller: Caller): string | null {
  return typeof caller.claims.sub === "string" ? caller.claims.sub : null;
}

function limitOf({ file_size_limit: limit }: Record<string, unknown>): number | null {
  if (limit === undefined || limit === null) return null;
  const match = /^([0-9]{1,12})([KMG]?B)?$/.exec(String(limit).toUpperCase());
  if (match === null) throw FAULTS.invalidRequest("Invalid file size format, hint: use 20GB / 20MB / 30KB / 3B");
  return Number(match[1]) * (UNITS[match[2] ?? "B"] ?? 1);
}

function typesOf({ allowed_mime_types: types }: Record<string, unknown>): string[] | null {
  if (types === undefined || types === null) return null;
  if (!Array.isArray(types) || !types.every((type) => /^[\w.+*-]+\/[\w.+*-]+$/.test(String(type)))) {
    throw FAULTS.invalidRequest("allowed_mime_types must be a list of types such as image/* or application/pdf");
  }
  return types.map(String);
}
