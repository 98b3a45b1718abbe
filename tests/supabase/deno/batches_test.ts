// Processing in batches: nothing waits while there is room, and everything goes together when there is none.

import assert from "node:assert/strict";
import { inBatches } from "../../../harness/supabase/functions/_shared/db.ts";

Deno.test("the first goes at once, what comes meanwhile goes together", async () => {
  const calls: { ids: string[]; end: PromiseWithResolvers<string[]> }[] = [];
  const process = inBatches((ids) => {
    calls.push({ ids, end: Promise.withResolvers<string[]>() });
    return calls.at(-1)!.end.promise;
  });
  const all = ["1", "2", "3", "4"].map(process);
  assert.deepEqual(calls.map(({ ids }) => ids), [["1"], ["2"]]);
  calls[0]!.end.resolve([]);
  await all[0];
  await Promise.resolve();
  assert.deepEqual(calls.map(({ ids }) => ids), [["1"], ["2"], ["3", "4"]]);
  calls[1]!.end.resolve([]);
  calls[2]!.end.resolve(["4"]);
  await all[2];
  await Promise.resolve();
  assert.deepEqual(calls.map(({ ids }) => ids), [["1"], ["2"], ["3", "4"], ["4"]]);
  calls[3]!.end.resolve([]);
  await Promise.all(all);
});

Deno.test("a call that fails fails those of its batch, and no others", async () => {
  let first = true;
  const process = inBatches((ids) => {
    if (ids[0] === "1" && first) {
      first = false;
      return Promise.reject(new Error("gone"));
    }
    return Promise.resolve([]);
  });
  const [one, two] = await Promise.allSettled([process("1"), process("2")]);
  assert.deepEqual([one!.status, two!.status], ["rejected", "fulfilled"]);
  await process("1");
});

Deno.test("a call that gets to nothing is not repeated for ever", async () => {
  let calls = 0;
  const process = inBatches((ids) => {
    calls += 1;
    return Promise.resolve(ids);
  });
  await process("1");
  assert.equal(calls, 1);
});
