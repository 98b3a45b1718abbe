// Leave to upload: asked of the storage with the service's key, given on without it.

import assert from "node:assert/strict";
import { Refusal } from "../../../harness/supabase/functions/_shared/answers.ts";
import { withUploads } from "../../../harness/supabase/functions/_shared/uploads.ts";

const ENV: Record<string, string> = { SUPABASE_URL: "https://x.supabase.co", SUPABASE_SERVICE_ROLE_KEY: "the-key" };
const WANTED = (count: number) =>
  JSON.stringify({
    inserted: count,
    wanted: Array.from({ length: count }, (_, at) => ({ id: at + 1, path: `bir/2026/1601-C/a b (${at}).pdf` })),
  });

function storage(answer: (url: string) => Response | Promise<Response>) {
  const seen = { urls: [] as string[], headers: [] as Headers[], atOnce: 0, most: 0 };
  const send = (async (url: string, init: RequestInit) => {
    seen.urls.push(url);
    seen.headers.push(new Headers(init.headers));
    seen.most = Math.max(seen.most, ++seen.atOnce);
    try {
      await new Promise((resolve) => setTimeout(resolve, 1));
      return await answer(url);
    } finally {
      seen.atOnce -= 1;
    }
  }) as typeof fetch;
  return { complete: withUploads((name) => ENV[name], send), seen };
}

const code = (expected: string) => (error: unknown) => error instanceof Refusal && error.code === expected;

Deno.test("each wanted document gets the URL for its path, at most eight are asked for at once", async () => {
  const { complete, seen } = storage((url) =>
    Response.json({ url: url.slice(ENV.SUPABASE_URL!.length + 11) + "?token=t" })
  );
  const said = JSON.parse(await complete(WANTED(40)));
  assert.equal(said.inserted, 40);
  assert.deepEqual(said.wanted.map((one: { id: number }) => one.id), Array.from({ length: 40 }, (_, at) => at + 1));
  assert.equal(
    said.wanted[3].url,
    "/object/upload/sign/documents/bir/2026/1601-C/a%20b%20(3).pdf?token=t",
  );
  assert.equal(seen.urls.length, 40);
  assert.equal(seen.most, 8);
  assert.equal(seen.headers[0]!.get("authorization"), "Bearer the-key");
  assert.ok(!JSON.stringify(said).includes("the-key"));
});

Deno.test("where nothing is wanted the storage is not asked, and the answer is as it was", async () => {
  const { complete, seen } = storage(() => new Response(null, { status: 500 }));
  for (const answer of ['{"mode":"full"}', '{"wanted":[]}', '{"id":9223372036854775807}']) {
    assert.equal(await complete(answer), answer);
  }
  assert.equal(seen.urls.length, 0);
});

Deno.test("another object in the way is said of that document alone", async () => {
  const { complete } = storage((url) =>
    url.includes("(1)")
      ? Response.json({ statusCode: "409", error: "Duplicate", message: "x" }, { status: 400 })
      : Response.json({ url: "/u" })
  );
  const said = JSON.parse(await complete(WANTED(3)));
  assert.deepEqual(said.wanted.map((one: { url?: string }) => one.url), ["/u", undefined, "/u"]);
  assert.match(said.wanted[1].error, /another object/);
});

for (
  const [what, answer, expected] of [
    ["a fault", () => new Response("{}", { status: 503 }), "storage_unavailable"],
    ["no JSON", () => new Response("<html>", { status: 200 }), "storage_unavailable"],
    ["no connection", () => Promise.reject(new TypeError("refused")), "storage_unavailable"],
    ["too many at once", () => Response.json({}, { status: 429 }), "storage_unavailable"],
    ["no bucket", () => Response.json({ error: "Bucket not found" }, { status: 400 }), "storage_refused"],
    ["no URL", () => Response.json({ token: "t" }), "storage_refused"],
  ] as [string, () => Response | Promise<Response>, string][]
) {
  Deno.test(`${what} is a refusal, once and as a whole`, async () => {
    await assert.rejects(storage(answer).complete(WANTED(9)), code(expected));
  });
}

Deno.test("without its settings it says which, and never their values", async () => {
  for (const missing of Object.keys(ENV)) {
    const complete = withUploads((name) => name === missing ? undefined : ENV[name], fetch);
    await assert.rejects(complete(WANTED(1)), code("not_configured"));
  }
});
