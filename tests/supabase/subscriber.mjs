// A subscriber with the official JavaScript client, in Deno or in Node: says what it hears, a line of JSON each.
//
//   deno run --allow-net --allow-env subscriber.mjs '{"url","apikey","token","tables":[{"event","schema","table","filter"}],"private","late"}'
//   SUPABASE_JS=<folder with node_modules> node subscriber.mjs …
//
// A line on standard input is broadcast; its end is the subscriber's.

const deno = typeof Deno !== "undefined";
const { createClient, transport } = deno
  ? { createClient: (await import("npm:@supabase/supabase-js@2.109.0")).createClient }
  : await fromNode(process.env.SUPABASE_JS);
const { url, apikey, token, tables, private: guarded, late } = JSON.parse((deno ? Deno.args : process.argv.slice(2))[0]);
const say = (line) => console.log(JSON.stringify(line));

const client = createClient(url, apikey, { realtime: transport ? { transport } : {} });
if (!late) await client.realtime.setAuth(token);
const channel = client.channel("odoo-sync", { config: { private: guarded, broadcast: { ack: true } } });
for (const table of tables) channel.on("postgres_changes", table, (change) => say({ change }));
channel.on("broadcast", { event: "*" }, ({ event, payload }) => say({ broadcast: { event, payload } }));
channel.on("system", {}, ({ message }) => say({ system: message }));
channel.subscribe((state, error) => {
  say({ state, error: error?.message });
  // Later than the client itself, which sends its key as a token once it has joined.
  if (late && state === "SUBSCRIBED") setTimeout(() => client.realtime.setAuth(token), 1000);
});

const input = deno ? Deno.stdin.readable : process.stdin;
for await (const chunk of input) {
  const payload = JSON.parse(new TextDecoder().decode(chunk));
  say({ sent: await channel.send({ type: "broadcast", event: "said", payload }) });
}
await client.removeAllChannels();
(deno ? Deno : process).exit(0);

/** Node 20 and older have no WebSocket of their own. */
async function fromNode(folder) {
  const { createRequire } = await import("node:module");
  const require = createRequire(`${folder}/package.json`);
  return {
    createClient: require("@supabase/supabase-js").createClient,
    transport: globalThis.WebSocket ? undefined : require("ws"),
  };
}
