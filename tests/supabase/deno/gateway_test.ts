// What the harness's gateway reads and checks: config.toml, and the platform's JWT.

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createHmac } from "node:crypto";
import { functionSettings } from "../../../harness/ipai_harness/stack/gateway.ts";
import { jwtFault } from "../../../harness/ipai_harness/stack/jwt.ts";

const SECRET = "a JWT secret that is long enough, really";
const NOW = 1767225600123;

function jwt(claims: unknown, { alg = "HS256", secret = SECRET } = {}): string {
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${part({ alg, typ: "JWT" })}.${part(claims)}`;
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
}

Deno.test("settings of functions are read from config.toml, and nothing else", () => {
  const read = functionSettings(`
    project_id = "x"
    [functions.a-b] # comment
    verify_jwt = false # why
    entrypoint = "./elsewhere/a.ts"
    [ functions . "c d" ]
    enabled = false
    [db]
    verify_jwt = false
    [functions.e]
    [functions.e.deeper]
    verify_jwt = false
  `);
  assert.deepEqual(Object.fromEntries(read), {
    "a-b": { verifyJwt: false, entrypoint: "./elsewhere/a.ts" },
    "c d": { enabled: false },
    "e": {},
  });
});

Deno.test("a good token passes", async () => {
  assert.equal(await jwtFault(`Bearer ${jwt({ role: "anon", exp: NOW / 1000 + 1 })}`, SECRET, NOW), null);
  assert.equal(await jwtFault(`Bearer ${jwt({})}`, SECRET, NOW), null);
});

Deno.test("what does not pass", async () => {
  const cases: [string, string | null][] = [
    ["Missing authorization header", null],
    ["Invalid Token or Protected Header formatting", "Bearer x"],
    ["Invalid Token or Protected Header formatting", "Basic abc"],
    ["Invalid Token or Protected Header formatting", `Bearer ${"A".repeat(5)}.b.c`],
    ["Invalid JWT", `Bearer ${jwt({}, { secret: "another" })}`],
    ["Invalid JWT", `Bearer ${jwt({}, { alg: "none" })}`],
    ["Invalid JWT", `Bearer ${jwt({ exp: NOW / 1000 - 1 })}`],
    ["Invalid JWT", `Bearer ${jwt({ nbf: NOW / 1000 + 60 })}`],
  ];
  for (const [fault, header] of cases) assert.equal(await jwtFault(header, SECRET, NOW), fault, `${header}`);
  assert.equal(await jwtFault(`Bearer ${jwt({})}`, "", NOW), "Invalid JWT");
});
