/** Objects among one another: listed by folder, moved, copied. */

import type { Storage } from "./storage.ts";
import { bodyOf, ownerOf } from "./storage_buckets.ts";
import { FAULTS } from "./storage_faults.ts";
import { callerOf, putObject } from "./storage_metadata.ts";
import { checkedName, type Place } from "./storage_objects.ts";

const COLUMNS = ["name", "created_at", "updated_at", "last_accessed_at"];

/** What stands directly in a folder: objects, and folders, which have nothing but a name. */
export async function list(storage: Storage, { request, bucket }: Place): Promise<Response> {
  const caller = await callerOf(request.headers.get("authorization"), storage.jwtSecret);
  const body = await bodyOf(request);
  const { column = "name", order = "asc" } = (body.sortBy ?? {}) as { column?: string; order?: string };
  if (!COLUMNS.includes(column)) throw FAULTS.invalidRequest(`sortBy.column must be one of ${COLUMNS.join(", ")}`);
  const limit = within(body.limit, 100, 1, 1000);
  const offset = within(body.offset, 0, 0, 1_000_000_000);
  const folder = String(body.prefix ?? "").replace(/^\/+|\/+$/g, "");
  const prefix = folder === "" ? "" : `${folder}/`;
  const search = String(body.search ?? "").toLowerCase();
  await storage.metadata.bucket(bucket);
  const rows = await storage.metadata.as(caller, (sql) =>
    sql`
    with visible as (
      select substr(o.name, length(${prefix}) + 1) as rest, o.*
      from storage.objects o where o.bucket_id = ${bucket} and starts_with(o.name, ${prefix})
    ), entries as (
      select rest as name, id, updated_at, created_at, last_accessed_at, metadata from visible where strpos(rest, '/') = 0
      union all
      select distinct split_part(rest, '/', 1), null::uuid, null::timestamptz, null::timestamptz, null::timestamptz,
        null::jsonb
      from visible where strpos(rest, '/') > 0
    )
    select * from entries where starts_with(lower(name), ${search})
    order by ${sql(column)} ${order === "desc" ? sql`desc nulls last` : sql`asc nulls first`}, name
    limit ${limit} offset ${offset}`);
  return Response.json([...rows]);
}

export async function move(storage: Storage, { request }: Place): Promise<Response> {
  const caller = await callerOf(request.headers.get("authorization"), storage.jwtSecret);
  const { bucket, from, to, target } = await journey(request);
  const name = checkedName(to);
  await storage.metadata.bucket(bucket);
  const moved = await storage.metadata.as(
    caller,
    (sql) =>
      sql`update storage.objects set bucket_id = ${target}, name = ${name}, updated_at = now()
      where bucket_id = ${bucket} and name = ${from} returning id`,
  );
  if (moved[0] === undefined) throw FAULTS.objectNotFound();
  return Response.json({ message: "Successfully moved", Id: moved[0].id, Key: `${target}/${name}` });
}

export async function copy(storage: Storage, { request }: Place): Promise<Response> {
  const caller = await callerOf(request.headers.get("authorization"), storage.jwtSecret);
  const { bucket, from, to, target } = await journey(request);
  await storage.metadata.bucket(bucket);
  const source = await storage.metadata.object(caller, bucket, from);
  const version = crypto.randomUUID();
  const upsert = request.headers.get("x-upsert") === "true";
  const object = { bucket: target, name: checkedName(to), version, owner: ownerOf(caller), upsert };
  await storage.metadata.rehearse(caller, (sql) => putObject(sql, object, null, null));
  await storage.bytes.copy(source.version, version);
  let put;
  try {
    put = await storage.metadata.as(caller, (sql) => putObject(sql, object, source.metadata, source.user_metadata));
  } catch (error) {
    await storage.bytes.remove([version]);
    throw error;
  }
  await storage.bytes.remove([put.replaced]);
  return Response.json({ Id: put.id, Key: `${target}/${object.name}` });
}

async function journey(request: Request): Promise<{ bucket: string; from: string; to: string; target: string }> {
  const { bucketId, sourceKey, destinationKey, destinationBucket } = await bodyOf(request);
  for (const value of [bucketId, sourceKey, destinationKey]) {
    if (typeof value !== "string") {
      throw FAULTS.invalidRequest("body must have bucketId, sourceKey and destinationKey");
    }
  }
  const target = typeof destinationBucket === "string" ? destinationBucket : String(bucketId);
  return { bucket: String(bucketId), from: String(sourceKey), to: String(destinationKey), target };
}

function within(value: unknown, usual: number, least: number, most: number): number {
  const number = Math.trunc(Number(value ?? usual));
  return Number.isFinite(number) ? Math.min(Math.max(number, least), most) : usual;
}
