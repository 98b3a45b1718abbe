/** The platform's tokens: JSON Web Tokens under HS256 and SUPABASE_JWT_SECRET. */

export interface Claims {
  readonly role?: string;
  readonly exp?: number;
  readonly nbf?: number;
  readonly [name: string]: unknown;
}

/** A token that cannot be trusted; the message is the platform's own. */
export class JwtFault extends Error {}

const ALGORITHM = { name: "HMAC", hash: "SHA-256" };

/** A token that says this, under the secret. */
export async function tokenOf(claims: Claims, secret: string): Promise<string> {
  const bytes = new TextEncoder();
  const key = await crypto.subtle.importKey("raw", bytes.encode(secret), ALGORITHM, false, ["sign"]);
  const signed = [{ alg: "HS256", typ: "JWT" }, claims].map((part) => encodePart(bytes.encode(JSON.stringify(part))))
    .join(".");
  return `${signed}.${encodePart(new Uint8Array(await crypto.subtle.sign("HMAC", key, bytes.encode(signed))))}`;
}

/** What a token says, once it is proved. `now`: milliseconds. Throws `JwtFault`, and nothing else. */
export async function claimsOf(token: string, secret: string, now: number): Promise<Claims> {
  const parts = /^([\w-]+)\.([\w-]+)\.([\w-]+)$/.exec(token);
  if (!parts) throw new JwtFault("Invalid Token or Protected Header formatting");
  try {
    const [, header, payload, signature] = parts as unknown as [string, string, string, string];
    const read = (part: string) => JSON.parse(new TextDecoder().decode(decodePart(part)));
    if (secret === "" || read(header).alg !== "HS256") throw new JwtFault("Invalid JWT");
    const bytes = new TextEncoder();
    const key = await crypto.subtle.importKey("raw", bytes.encode(secret), ALGORITHM, false, ["verify"]);
    const signed = bytes.encode(`${header}.${payload}`);
    if (!await crypto.subtle.verify("HMAC", key, decodePart(signature), signed)) throw new JwtFault("Invalid JWT");
    const claims: Claims = read(payload);
    if (typeof claims.exp === "number" && claims.exp * 1000 <= now) throw new JwtFault("Invalid JWT");
    if (typeof claims.nbf === "number" && claims.nbf * 1000 > now) throw new JwtFault("Invalid JWT");
    return claims;
  } catch (error) {
    if (error instanceof JwtFault) throw error;
    throw new JwtFault("Invalid Token or Protected Header formatting");
  }
}

/** Null, or what the platform says is wrong with a request's authorization. */
export async function jwtFault(authorization: string | null, secret: string, now: number): Promise<string | null> {
  if (authorization === null) return "Missing authorization header";
  try {
    await claimsOf(/^Bearer (.+)$/.exec(authorization)?.[1] ?? "", secret, now);
    return null;
  } catch (error) {
    return (error as JwtFault).message;
  }
}

function decodePart(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (character) => character.charCodeAt(0));
}

function encodePart(bytes: Uint8Array): string {
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""))
    .replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}
