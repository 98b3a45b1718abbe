/** URLs that open one path by themselves: tokens under the JWT secret, with a scope, a path and an end, and no role. */

import { claimsOf, JwtFault, tokenOf } from "./jwt.ts";
import type { Storage } from "./storage.ts";
import { bodyOf, ownerOf } from "./storage_buckets.ts";
import { FAULTS, StorageFault } from "./storage_faults.ts";
import { type Caller, callerOf, putObject, SERVICE } from "./storage_metadata.ts";
import { checkedName, given, type Place, receive } from "./storage_objects.ts";

/** Seconds in which a signed upload must be begun. */
const UPLOAD_SECONDS = 7_200;
const MAX_SECONDS = 31_536_000_000;

export async function sign(storage: Storage, { request, bucket, name }: Place): Promise<Response> {
  const caller = await callerOf(request.headers.get("authorization"), storage.jwtSecret);
  const seconds = secondsOf(await bodyOf(request));
  return Response.json({ signedURL: await signed(storage, caller, bucket, name, seconds) });
}

export async function signMany(storage: Storage, { request, bucket }: Place): Promise<Response> {
  const caller = await callerOf(request.headers.get("authorization"), storage.jwtSecret);
  const body = await bodyOf(request);
  const seconds = secondsOf(body);
  if (!Array.isArray(body.paths) || body.paths.length > 1000) throw FAULTS.invalidRequest("body/paths must be array");
  await storage.metadata.bucket(bucket);
  const answers = [];
  for (const path of body.paths.map(String)) {
    let signedURL: string | null = null;
    try {
      signedURL = await signed(storage, caller, bucket, path, seconds);
    } catch (error) {
      if (!(error instanceof StorageFault)) throw error;
    }
    const error = signedURL === null ? "Either the object does not exist or you do not have access to it" : null;
    answers.push({ error, path, signedURL });
  }
  return Response.json(answers);
}

export async function downloadSigned(storage: Storage, place: Place): Promise<Response> {
  await claimed(storage, place, "download");
  return await given(storage, place, await storage.metadata.object(SERVICE, place.bucket, place.name));
}

export async function signUpload(storage: Storage, { request, bucket, name: asked }: Place): Promise<Response> {
  const caller = await callerOf(request.headers.get("authorization"), storage.jwtSecret);
  await storage.metadata.bucket(bucket);
  const name = checkedName(asked);
  const upsert = request.headers.get("x-upsert") === "true";
  const owner = ownerOf(caller);
  const object = { bucket, name, version: crypto.randomUUID(), owner, upsert };
  await storage.metadata.rehearse(caller, (sql) => putObject(sql, object, null, null));
  const claims = { scope: "upload", url: `${bucket}/${name}`, upsert, owner };
  const token = await tokenOf({ ...claims, ...times(UPLOAD_SECONDS) }, storage.jwtSecret);
  return Response.json({ url: `/object/upload/sign/${encoded(bucket, name)}?token=${token}`, token });
}

export async function uploadSigned(storage: Storage, place: Place): Promise<Response> {
  const claims = await claimed(storage, place, "upload");
  const owner = typeof claims.owner === "string" ? claims.owner : null;
  return Response.json(await receive(storage, place, SERVICE, owner, claims.upsert === true));
}

async function signed(storage: Storage, caller: Caller, bucket: string, name: string, seconds: number) {
  await storage.metadata.object(caller, bucket, name);
  const claims = { scope: "download", url: `${bucket}/${name}`, ...times(seconds) };
  return `/object/sign/${encoded(bucket, name)}?token=${await tokenOf(claims, storage.jwtSecret)}`;
}

async function claimed(storage: Storage, { url, bucket, name }: Place, scope: string) {
  let claims;
  try {
    claims = await claimsOf(url.searchParams.get("token") ?? "", storage.jwtSecret, Date.now());
  } catch (error) {
    if (error instanceof JwtFault) throw FAULTS.invalidJwt(error.message);
    throw error;
  }
  if (claims.scope !== scope || claims.url !== `${bucket}/${name}`) throw FAULTS.invalidSignature();
  return claims;
}

function times(seconds: number): { iat: number; exp: number } {
  const now = Math.floor(Date.now() / 1000);
  return { iat: now, exp: now + seconds };
}

function secondsOf({ expiresIn }: Record<string, unknown>): number {
  const seconds = Number(expiresIn);
  if (!Number.isInteger(seconds) || seconds < 1 || seconds > MAX_SECONDS) {
    throw FAULTS.invalidRequest("body/expiresIn must be >= 1");
  }
  return seconds;
}

function encoded(bucket: string, name: string): string {
  return [bucket, ...name.split("/")].map(encodeURIComponent).join("/");
}
