/** The storage's tables, asked under the role of whoever asks: row-level security decides, not this program. */

import postgres from "npm:postgres@3.4.9";
import { type Claims, claimsOf, JwtFault } from "./jwt.ts";
import { FAULTS, StorageFault } from "./storage_faults.ts";

export type Sql = postgres.TransactionSql;

export interface Caller {
  readonly role: string;
  readonly claims: Claims;
}

export interface Bucket {
  readonly id: string;
  readonly public: boolean;
  readonly file_size_limit: string | null;
  readonly allowed_mime_types: string[] | null;
}

/** Metadata of the bytes, as the platform names it. */
export interface ObjectMetadata {
  readonly eTag: string;
  readonly size: number;
  readonly mimetype: string;
  readonly cacheControl: string;
  readonly lastModified: string;
  readonly contentLength: number;
  readonly httpStatusCode: number;
}

export interface StoredObject {
  readonly id: string;
  readonly name: string;
  readonly bucket_id: string;
  readonly version: string;
  readonly created_at: string;
  readonly updated_at: string;
  readonly metadata: ObjectMetadata;
  readonly user_metadata: Record<string, unknown> | null;
}

/** Whoever holds the service's own rights. */
export const SERVICE: Caller = { role: "service_role", claims: { role: "service_role" } };
const ROLES = ["anon", "authenticated", "service_role"];

/** Who asks, by the request's bearer token. Throws a `StorageFault`. */
export async function callerOf(authorization: string | null, secret: string): Promise<Caller> {
  if (authorization === null) throw FAULTS.invalidRequest("headers must have required property 'authorization'");
  let claims: Claims;
  try {
    claims = await claimsOf(/^Bearer (.+)$/i.exec(authorization)?.[1] ?? "", secret, Date.now());
  } catch (error) {
    if (error instanceof JwtFault) throw FAULTS.invalidJwt(error.message);
    throw error;
  }
  // The token of a signed URL has no role: it opens that URL, and nothing here.
  if (typeof claims.role !== "string" || !ROLES.includes(claims.role)) throw FAULTS.invalidJwt("Invalid JWT");
  return { role: claims.role, claims };
}

export class Metadata {
  readonly #sql: postgres.Sql;

  constructor(url: string) {
    this.#sql = postgres(url, {
      max: 4,
      prepare: false,
      connect_timeout: 5,
      backoff: () => 0.25,
      onnotice: () => {},
      connection: { application_name: "storage" },
    });
  }

  /** Does the work in one transaction as the caller. What PostgreSQL refuses becomes a `StorageFault`. */
  async as<T>(caller: Caller, work: (sql: Sql) => Promise<T>): Promise<T> {
    try {
      return await this.#sql.begin(async (sql) => {
        await sql`select set_config('request.jwt.claims', ${JSON.stringify(caller.claims)}, true),
          set_config('role', ${caller.role}, true)`;
        return await work(sql);
      }) as T;
    } catch (error) {
      throw faultOf(error);
    }
  }

  /** Whether the work would be allowed; nothing of it stays. Throws what `as` would throw. */
  async rehearse(caller: Caller, work: (sql: Sql) => Promise<unknown>): Promise<void> {
    const undo = new Error("only a rehearsal");
    try {
      await this.as(caller, async (sql) => {
        await work(sql);
        throw undo;
      });
    } catch (error) {
      if (error !== undo) throw error;
    }
  }

  /** The bucket, whoever asks. */
  async bucket(id: string): Promise<Bucket> {
    const [bucket] = await this.as(SERVICE, (sql) =>
      sql<Bucket[]>`
      select id, public, file_size_limit::text, allowed_mime_types from storage.buckets where id = ${id}`);
    if (bucket === undefined) throw FAULTS.bucketNotFound();
    return bucket;
  }

  /** The object, if the caller may see it. */
  async object(caller: Caller, bucket: string, name: string): Promise<StoredObject> {
    const [found] = await this.as(caller, (sql) =>
      sql<StoredObject[]>`
      select id, name, bucket_id, version, created_at::text, updated_at::text, metadata, user_metadata
      from storage.objects where bucket_id = ${bucket} and name = ${name}`);
    if (found === undefined) throw FAULTS.objectNotFound();
    return found;
  }
}

/** The statement by which an object comes to be; its id, and the version whose bytes it takes the place of. */
export async function putObject(
  sql: Sql,
  object: { bucket: string; name: string; version: string; owner: string | null; upsert: boolean },
  metadata: ObjectMetadata | null,
  userMetadata: Record<string, unknown> | null,
): Promise<{ id: string; replaced: string | null }> {
  const { bucket, name, version, owner, upsert } = object;
  const id = crypto.randomUUID();
  // json(null) would be JSON's null, not the absence of a value.
  const [described, said] = [metadata, userMetadata].map((value) => value === null ? null : sql.json(value as never));
  const [old] = upsert
    ? await sql`select id, version from storage.objects where bucket_id = ${bucket} and name = ${name} for update`
    : [];
  if (old === undefined) {
    await sql`insert into storage.objects (id, bucket_id, name, version, owner_id, metadata, user_metadata)
      values (${id}::uuid, ${bucket}, ${name}, ${version}, ${owner}, ${described ?? null}::jsonb, ${
      said ?? null
    }::jsonb)`;
    return { id, replaced: null };
  }
  const changed = await sql`update storage.objects set version = ${version}, owner_id = ${owner}, updated_at = now(),
    metadata = ${described ?? null}::jsonb, user_metadata = ${said ?? null}::jsonb
    where id = ${old.id}`;
  if (changed.count !== 1) throw FAULTS.unauthorized();
  return { id: old.id, replaced: old.version };
}

function faultOf(error: unknown): unknown {
  const state = (error as { code?: unknown } | null)?.code;
  if (error instanceof StorageFault || typeof state !== "string") return error;
  if (state === "42501") return FAULTS.unauthorized();
  if (state === "23505") return FAULTS.duplicate();
  if (state === "23503") return FAULTS.bucketNotFound();
  if (/^22/.test(state)) return FAULTS.invalidRequest("the database cannot store this");
  return new StorageFault(503, "DatabaseError", `The database does not do this now (${state})`);
}
