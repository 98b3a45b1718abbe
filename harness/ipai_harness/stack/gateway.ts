/**
 * The platform's gateway and edge runtime, for a harness: serves every function of a Supabase project, unchanged.
 *
 *   deno run --no-prompt --config PROJECT/functions/deno.json --allow-net --allow-read=PROJECT
 *     "--allow-env=SUPABASE_*,IPAI_BRIDGE_*,PG*" gateway.ts --project PROJECT --port 0 --host 127.0.0.1
 *
 * Port 0 is a free one. The first line on standard output says where it listens; then comes one line of JSON per request:
 * method, path, status, milliseconds and idempotency key; never a query, a body or another header.
 *
 * With --exchanges FILE (and --allow-write=FILE) every exchange with a function is recorded there: see exchanges.ts.
 *
 *   /functions/v1/NAME…     the function NAME, which sees the path /NAME… as on the platform
 *   /realtime/v1/…          Realtime; see realtime.ts
 *   /functions/v1/_health   200 {"ok":true,"functions":[…]}; 503 and "boot_errors" if a function could not be loaded
 *   /storage/v1/…           the storage, with --storage DIR, --allow-read=DIR and --allow-write=DIR: see storage.ts
 *
 * What the platform answers before a function sees anything, it answers too: 401 if `verify_jwt` is on (the default) and the
 * bearer token is not an HS256 JWT under SUPABASE_JWT_SECRET, 404 for an unknown function, 503 BOOT_ERROR.
 * Not like the platform: all functions share one process, with the storage too, and there is no limit on memory or time.
 */

import { recorded } from "./exchanges.ts";
import { jwtFault } from "./jwt.ts";
import { openStorage, STORAGE_PREFIX } from "./storage.ts";
import { type Realtime, realtime } from "./realtime.ts";

type Handler = (request: Request, info?: unknown) => Response | Promise<Response>;

interface FunctionSettings {
  enabled: boolean;
  verifyJwt: boolean;
  entrypoint: string;
}

interface LoadedFunction {
  verifyJwt: boolean;
  handler: Handler | null;
  bootError: string | null;
}

const PREFIX = "/functions/v1/";
const GRACE_MS = 3_000;
const UUID = /^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$/;

const realServe = Deno.serve;
const background = new Set<Promise<unknown>>();

function log(line: Record<string, unknown>): void {
  console.log(JSON.stringify(line));
}

function json(status: number, value: unknown): Response {
  return new Response(JSON.stringify(value), { status, headers: { "content-type": "application/json" } });
}

// ------------------------------------------------------------------------------------------------- the project

/** The settings of [functions.NAME] in config.toml: of TOML, the little that these sections use. */
export function functionSettings(toml: string): Map<string, Partial<FunctionSettings>> {
  const all = new Map<string, Partial<FunctionSettings>>();
  let current: Partial<FunctionSettings> | undefined;
  for (const line of toml.split("\n")) {
    const section = /^\s*\[\s*([^\]]*?)\s*\]\s*(#.*)?$/.exec(line);
    if (section) {
      const name = /^functions\s*\.\s*(?:"([^"]+)"|'([^']+)'|([A-Za-z0-9_-]+))$/.exec(section[1] ?? "");
      current = name ? {} : undefined;
      if (name && current) all.set((name[1] ?? name[2] ?? name[3])!, current);
      continue;
    }
    const flag = /^\s*(enabled|verify_jwt)\s*=\s*(true|false)\s*(#.*)?$/.exec(line);
    if (current && flag) current[flag[1] === "enabled" ? "enabled" : "verifyJwt"] = flag[2] === "true";
    const path = /^\s*entrypoint\s*=\s*(?:"([^"]*)"|'([^']*)')\s*(#.*)?$/.exec(line);
    if (current && path) current.entrypoint = path[1] ?? path[2] ?? "";
  }
  return all;
}

async function findFunctions(project: URL): Promise<Map<string, FunctionSettings>> {
  const configured = functionSettings(await Deno.readTextFile(new URL("config.toml", project)));
  const found = new Map<string, FunctionSettings>();
  const names = new Set(configured.keys());
  for await (const entry of Deno.readDir(new URL("functions/", project))) {
    if (entry.isDirectory && !entry.name.startsWith("_") && !entry.name.startsWith(".")) names.add(entry.name);
  }
  for (const name of [...names].sort()) {
    const settings = {
      enabled: true,
      verifyJwt: true,
      entrypoint: `./functions/${name}/index.ts`,
      ...configured.get(name),
    };
    if (settings.enabled) found.set(name, { ...settings, entrypoint: new URL(settings.entrypoint, project).href });
  }
  return found;
}

/** Imports the function, and keeps the handler that it registers instead of letting it open a port. */
async function load({ verifyJwt, entrypoint }: FunctionSettings): Promise<LoadedFunction> {
  let handler: Handler | null = null;
  const capture = (...args: unknown[]) => {
    for (const arg of args) {
      if (typeof arg === "function") handler = arg as Handler;
      else if (arg !== null && typeof arg === "object" && "handler" in arg) handler = arg.handler as Handler;
    }
    const finished = new Promise<void>(() => {});
    return {
      finished,
      addr: {},
      ref() {},
      unref() {},
      shutdown: () => Promise.resolve(),
      [Symbol.asyncDispose]: () => finished,
    };
  };
  Object.defineProperty(Deno, "serve", { value: capture, configurable: true, writable: true });
  try {
    const module = await import(entrypoint);
    if (handler === null && typeof module.default?.fetch === "function") {
      handler = module.default.fetch.bind(module.default);
    }
    if (handler === null) throw new Error("it registers no handler with Deno.serve");
    return { verifyJwt, handler, bootError: null };
  } catch (error) {
    return { verifyJwt, handler: null, bootError: error instanceof Error ? error.message : String(error) };
  } finally {
    Object.defineProperty(Deno, "serve", { value: realServe, configurable: true, writable: true });
  }
}

// ------------------------------------------------------------------------------------------------- the gateway

function gateway(
  functions: ReadonlyMap<string, LoadedFunction>,
  jwtSecret: string,
  storage: Handler | null,
  live: Realtime,
): (request: Request, info?: unknown) => Promise<Response> {
  const health = () => {
    const booted = [...functions].filter(([, loaded]) => loaded.handler !== null).map(([name]) => name);
    const failed = [...functions].filter(([, loaded]) => loaded.handler === null);
    if (failed.length === 0) return json(200, { ok: true, functions: booted });
    const errors = Object.fromEntries(failed.map(([name, loaded]) => [name, loaded.bootError]));
    return json(503, { ok: false, functions: booted, boot_errors: errors });
  };

  async function answer(request: Request, url: URL, info: unknown): Promise<Response> {
    if (url.pathname === `${PREFIX}_health`) return health();
    if (storage !== null && url.pathname.startsWith(STORAGE_PREFIX)) return await storage(request);
    if (url.pathname.startsWith("/realtime/v1/")) return await live.answer(request, url);
    const path = url.pathname.startsWith(PREFIX) ? url.pathname.slice(PREFIX.length) : "";
    const loaded = functions.get(path.split("/", 1)[0] ?? "");
    if (loaded === undefined) {
      return new Response("Function not found", { status: 404, headers: { "content-type": "text/plain" } });
    }
    // No Request object may have these, so no function ever sees them.
    if (/^(CONNECT|TRACE|TRACK)$/i.test(request.method)) return new Response(null, { status: 405 });
    if (loaded.verifyJwt && request.method !== "OPTIONS") {
      const fault = await jwtFault(request.headers.get("authorization"), jwtSecret, Date.now());
      if (fault !== null) return json(401, { code: 401, message: fault });
    }
    if (loaded.handler === null) {
      return json(503, { code: "BOOT_ERROR", message: "Worker failed to boot (please check logs)" });
    }
    try {
      url.pathname = `/${path}`;
      return await loaded.handler(new Request(url, request), info);
    } catch (error) {
      log({ level: "error", event: "uncaught", error: error instanceof Error ? error.name : "unknown" });
      return json(500, { code: "WORKER_ERROR", message: "Function exited due to an error (please check logs)" });
    }
  }

  return async (request, info) => {
    const started = performance.now();
    const url = new URL(request.url);
    const path = url.pathname.slice(0, 200);
    const key = request.headers.get("x-idempotency-key");
    const response = await answer(request, url, info);
    log({
      event: "request",
      method: request.method,
      path,
      status: response.status,
      ms: Math.round((performance.now() - started) * 10) / 10,
      idempotency_key: key !== null && UUID.test(key) ? key : null,
    });
    return response;
  };
}

function option(name: string, fallback?: string): string {
  const index = Deno.args.indexOf(`--${name}`);
  const value = index >= 0 ? Deno.args[index + 1] : fallback;
  if (value === undefined) {
    console.error(
      `gateway.ts: --${name} is required (--project DIR [--port N] [--host ADDRESS] [--storage DIR] [--exchanges FILE])`,
    );
    Deno.exit(2);
  }
  return value;
}

async function main(): Promise<void> {
  const project = new URL(`file://${encodeURI(option("project").replace(/\/*$/, "/"))}`);
  const port = Number(option("port", "0"));
  const hostname = option("host", "127.0.0.1");

  const scope = globalThis as unknown as { EdgeRuntime?: { waitUntil(work: Promise<unknown>): void } };
  scope.EdgeRuntime ??= {
    waitUntil(work) {
      const noted = work.catch(() => {}).finally(() => background.delete(noted));
      background.add(noted);
    },
  };
  // A fault of one function must not take the others along.
  globalThis.addEventListener("unhandledrejection", (event) => {
    event.preventDefault();
    log({
      level: "error",
      event: "unhandled_rejection",
      error: event.reason instanceof Error ? event.reason.name : "unknown",
    });
  });

  const functions = new Map<string, LoadedFunction>();
  for (const [name, settings] of await findFunctions(project)) {
    const loaded = await load(settings);
    if (loaded.bootError !== null) console.error(`function ${name} could not be loaded: ${loaded.bootError}`);
    functions.set(name, loaded);
  }

  const jwtSecret = Deno.env.get("SUPABASE_JWT_SECRET") ?? "";
  const databaseUrl = Deno.env.get("SUPABASE_DB_URL") ?? "";
  const directory = option("storage", "");
  const storage = directory === "" ? null : await openStorage(directory, databaseUrl, jwtSecret, log);
  const live = realtime({ databaseUrl, jwtSecret, log });
  const handler = gateway(functions, jwtSecret, storage, live);
  const exchanges = option("exchanges", "");
  const server = realServe({
    port,
    hostname,
    onListen: (address) =>
      log({ event: "listening", host: address.hostname, port: address.port, functions: [...functions.keys()] }),
  }, exchanges === "" ? handler : recorded(handler, PREFIX, exchanges));

  let stopping = false;
  const stop = async () => {
    if (stopping) return;
    stopping = true;
    const grace = new Promise((resolve) => setTimeout(resolve, GRACE_MS));
    await Promise.race([live.close(), grace]);
    await Promise.race([server.shutdown(), grace]);
    await Promise.race([Promise.allSettled(background), grace]);
    log({ event: "stopped" });
    Deno.exit(0);
  };
  Deno.addSignalListener("SIGTERM", stop);
  Deno.addSignalListener("SIGINT", stop);
}

if (import.meta.main) await main();
