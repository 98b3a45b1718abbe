/**
 * Who may see what of a change: asked of PostgreSQL, with the role and the claims of who would see it.
 *
 * As Realtime's own realtime.apply_rls does it: a row that was inserted or updated is seen by whom a policy lets select
 * it by its primary key; of one that was deleted nothing is left to ask for, so everyone is told the primary key (all of
 * its identity, where row-level security is off); columns are those that the role may select; and a role that may not
 * select the primary key is told that something changed, and "Error 401: Unauthorized".
 */

// deno-lint-ignore no-import-prefix -- the gateway serves projects whose import map is not ours
import postgres from "npm:postgres@3.4.9";
import type { Binding, Filter, Subject } from "./realtime_channel.ts";
import type { Change, Tuple } from "./realtime_wal.ts";

const MAX_RECORD = 1_048_576;
const SHORT = 64;
const ATTEMPTS = 20;
const RETRY_MS = 250;
const OPERATORS: Readonly<Record<string, string>> = {
  eq: "=",
  neq: "<>",
  lt: "<",
  lte: "<=",
  gt: ">",
  gte: ">=",
  in: "= any",
};

/** Somebody who is told of changes. */
export interface Subscriber {
  readonly subject: Subject;
  readonly bindings: readonly Binding[];
  /** `data`: the text of a JSON object. */
  tell(ids: readonly number[], data: string): void;
}

interface Column {
  readonly name: string;
  readonly form: string;
  readonly type: string;
  readonly primary: boolean;
  /** Its place in the change's tuples. */
  readonly place: number;
  /** Its place among the columns that are there still. */
  readonly at: number;
}

/** The database, asked by one connection, one question after the other. */
export class Rows {
  #opened: postgres.Sql | null = null;

  constructor(readonly url: string, readonly publication: string) {}

  /** Opened when first needed: a project without a database has its functions all the same. */
  get #sql(): postgres.Sql {
    return this.#opened ??= postgres(this.url, {
      max: 2,
      prepare: false,
      fetch_types: false,
      connect_timeout: 5,
      idle_timeout: 20,
      backoff: () => 0.25,
      onnotice: () => {},
      connection: { application_name: "realtime rows", statement_timeout: 10_000 },
    });
  }

  async close(): Promise<void> {
    await this.#opened?.end({ timeout: 1 });
  }

  /** What is wrong with a binding: it names no table of the publication, or a filter that its columns do not take. */
  async fault({ schema, table, filters, select }: Binding, { role }: Subject): Promise<string | null> {
    const found = await this.#sql<{ oid: string }[]>`
      select format('%I.%I', p.schemaname, p.tablename)::regclass::oid::text as oid
      from pg_publication_tables p
      where p.pubname = ${this.publication} and (${schema}::text = '*' or p.schemaname = ${schema}::text)
        and (${table}::text = '*' or p.tablename = ${table}::text)`;
    if (found.length === 0) return "Please check Realtime is enabled for the given connect parameters";
    for (const { oid } of found) {
      const names = [...filters.map((filter) => filter.column), ...(select ?? [])];
      const columns = await this.#columns(this.#sql, Number(oid), names);
      const allowed = await this.#selectable(this.#sql, Number(oid), role);
      for (const name of select ?? []) {
        if (!allowed.has(name)) return `invalid column for select ${JSON.stringify(name)}`;
      }
      for (const { column, operator, value } of filters) {
        const form = columns.find(({ name }) => name === column)?.form;
        if (form === undefined || !allowed.has(column)) return `invalid column for filter ${JSON.stringify(column)}`;
        try {
          await this.#sql.unsafe(`select null::${form} ${OPERATORS[operator]} ($1::text::${listed(form, operator)})`, [
            value,
          ]);
        } catch (error) {
          if (!/^(22|42)/.test(String((error as { code?: unknown }).code))) throw error;
          return `invalid value for filter of ${JSON.stringify(column)}`;
        }
      }
    }
    return null;
  }

  /** Whether policies of realtime.messages let the subject hear (`select`) or send (`insert`) broadcasts of a topic. */
  async permits(right: "select" | "insert", topic: string, { role, claims }: Subject): Promise<boolean> {
    const undone = new Error("rolled back");
    let permitted = false;
    try {
      await this.#sql.begin(async (sql) => {
        const stored = () =>
          sql`insert into realtime.messages (topic, extension, private) values (${topic}, 'broadcast', true)`;
        if (right === "select") await stored();
        await sql`
          select set_config('role', ${role}, true), set_config('request.jwt.claims', ${claims}, true),
            set_config('realtime.topic', ${topic}, true)`;
        if (right === "insert") await stored();
        permitted = right === "insert" ||
          (await sql`select from realtime.messages where topic = ${topic} and extension = 'broadcast'`).length > 0;
        throw undone;
      });
    } catch (error) {
      // 42501: a policy or a grant is missing; 42P01, 3F000: there is no such table, so nothing is granted.
      const code = String((error as { code?: unknown }).code);
      if (error !== undone && !["42501", "42P01", "3F000"].includes(code)) throw error;
    }
    return permitted;
  }

  /** Tells each subscriber what it may see of the changes, in their order. */
  async tell(changes: readonly Change[], subscribers: readonly Subscriber[]): Promise<void> {
    await persistently(() => this.#committed(changes));
    for (let from = 0; from < changes.length;) {
      const { relation } = changes[from]!;
      let to = from;
      while (to < changes.length && changes[to]!.relation === relation) to += 1;
      const run = changes.slice(from, to);
      from = to;
      const asked = (binding: Binding) =>
        (binding.schema === "*" || binding.schema === relation.schema) &&
        (binding.table === "*" || binding.table === relation.table) &&
        (binding.event === "*" || run.some(({ action }) => action === binding.event));
      const interested = subscribers
        .map((subscriber) => ({ subscriber, bindings: subscriber.bindings.filter(asked) }))
        .filter(({ bindings }) => bindings.length > 0);
      if (interested.length > 0) await persistently(() => this.#tellOf(run, interested));
    }
  }

  /** The log tells of a commit a moment before others see its rows: until then no policy would let anybody see them. */
  async #committed(changes: readonly Change[]): Promise<void> {
    const xids = `{${[...new Set(changes.map(({ xid }) => xid))].join(",")}}`;
    const ending = () =>
      this.#sql`
        select 1 from pg_locks where locktype = 'transactionid' and granted and mode = 'ExclusiveLock'
          and transactionid::text = any (${xids}::text::text[])`;
    while ((await ending()).length > 0) await new Promise((resolve) => setTimeout(resolve, 2));
  }

  async #tellOf(
    changes: readonly Change[],
    interested: readonly { subscriber: Subscriber; bindings: readonly Binding[] }[],
  ): Promise<void> {
    const { relation } = changes[0]!;
    const told: (() => void)[][] = changes.map(() => []);
    await this.#sql.begin(async (sql) => {
      const columns = await this.#columns(sql, relation.oid, relation.columns.map(({ name }) => name));
      const [state] = await sql<
        { rls: boolean }[]
      >`select relrowsecurity as rls from pg_class where oid = ${relation.oid}`;
      if (state === undefined) return; // dropped meanwhile
      const rows = JSON.stringify(changes.map(({ row }) => row.map((value) => value ?? null)));
      const news = await this.#json(sql, columns, rows);
      const olds = await this.#json(
        sql,
        columns,
        JSON.stringify(changes.map(({ old, row }) => (old ?? row).map((value) => value ?? null))),
      );
      const matching = new Map<string, Set<number>>();
      const subjects = new Map<string, Promise<Sight>>();
      for (const { subscriber, bindings } of interested) {
        const key = `${subscriber.subject.role} ${subscriber.subject.claims}`;
        if (!subjects.has(key)) {
          subjects.set(key, this.#sight(sql, columns, state.rls, changes, rows, subscriber.subject));
        }
        const sight = await subjects.get(key)!;
        for (const { filters } of bindings) {
          for (const filter of filters) {
            const name = JSON.stringify(filter);
            if (!matching.has(name)) matching.set(name, await this.#matching(sql, columns, rows, filter));
          }
        }
        changes.forEach((change, index) => {
          const wanted = bindings.filter(({ event, filters }) =>
            (event === "*" || event === change.action) &&
            filters.every((filter) => matching.get(JSON.stringify(filter))!.has(index))
          );
          if (wanted.length === 0) return;
          const refused = change.action !== "DELETE" && sight.fault !== null;
          if (!refused && state.rls && change.action !== "DELETE" && !sight.visible.has(index)) return;
          // Of those that ask for columns, each gets its own; the others share one message.
          for (const [select, ids] of bySelect(wanted)) {
            const shown = columns.filter(({ name }) => sight.selectable.has(name) && (select?.includes(name) ?? true));
            const data = refused
              ? describe(change, [], null, null, [sight.fault!])
              : written(change, shown, news[index]!, olds[index]!, state.rls);
            told[index]!.push(() => subscriber.tell(ids, data));
          }
        });
      }
    });
    for (const each of told) for (const tell of each) tell();
  }

  async #sight(
    sql: postgres.TransactionSql,
    columns: readonly Column[],
    rls: boolean,
    changes: readonly Change[],
    rows: string,
    { role, claims }: Subject,
  ): Promise<Sight> {
    const { oid, schema, table } = changes[0]!.relation;
    const selectable = await this.#selectable(sql, oid, role);
    const keys = columns.filter(({ primary }) => primary);
    const fault = keys.length === 0
      ? "Error 400: Bad Request, no primary key"
      : keys.some(({ name }) => !selectable.has(name))
      ? "Error 401: Unauthorized"
      : null;
    if (!rls || fault !== null) return { fault, selectable, visible: new Set() };
    const same = keys.map(({ name, place, form }) => `t.${quoted(name)} = (e.v ->> ${place})::${form}`).join(" and ");
    let seen: { n: string }[] = [];
    try {
      await sql.savepoint(async (as) => {
        await as`select set_config('role', ${role}, true), set_config('request.jwt.claims', ${claims}, true)`;
        seen = await as.unsafe<{ n: string }[]>(
          `select e.n::text as n from jsonb_array_elements($1::text::jsonb) with ordinality as e(v, n)
           where exists (select from ${quoted(schema)}.${quoted(table)} t where ${same})`,
          [rows],
        );
        await as`select set_config('role', 'none', true), set_config('request.jwt.claims', '', true)`;
      });
    } catch (error) {
      // No usage on the schema, or a policy that fails on these claims: who cannot read it sees nothing.
      if (!/^[0-9A-Z]{5}$/.test(String((error as { code?: unknown }).code))) throw error;
      seen = [];
    }
    return { fault, selectable, visible: new Set(seen.map(({ n }) => Number(n) - 1)) };
  }

  async #matching(
    sql: postgres.TransactionSql,
    columns: readonly Column[],
    rows: string,
    { column, operator, value }: Filter,
  ): Promise<Set<number>> {
    const found = columns.find(({ name }) => name === column);
    if (found === undefined) return new Set();
    const matched = await sql.unsafe<{ n: string }[]>(
      `select e.n::text as n from jsonb_array_elements($1::text::jsonb) with ordinality as e(v, n)
       where (e.v ->> ${found.place})::${found.form} ${OPERATORS[operator]} ($2::text::${
        listed(found.form, operator)
      })`,
      [rows, value],
    );
    return new Set(matched.map(({ n }) => Number(n) - 1));
  }

  /** For each row the JSON of each column, as PostgreSQL writes it. */
  async #json(sql: postgres.TransactionSql, columns: readonly Column[], rows: string): Promise<(string | null)[][]> {
    const cells = columns.map(({ place, form }) => `to_jsonb((e.v ->> ${place})::${form})::text`).join(", ");
    const written = await sql.unsafe<{ cells: string }[]>(
      `select to_json(array[${cells}]::text[])::text as cells
       from jsonb_array_elements($1::text::jsonb) with ordinality as e(v, n) order by e.n`,
      [rows],
    );
    return written.map(({ cells }) => JSON.parse(cells));
  }

  async #columns(sql: postgres.Sql | postgres.TransactionSql, oid: number, names: string[]): Promise<Column[]> {
    const found = await sql<{ name: string; form: string; type: string; primary: boolean }[]>`
      select a.attname as name, format_type(a.atttypid, a.atttypmod) as form, t.typname as type,
        coalesce(a.attnum = any (i.indkey), false) as primary
      from pg_attribute a
      join pg_type t on t.oid = a.atttypid
      left join pg_index i on i.indrelid = a.attrelid and i.indisprimary
      where a.attrelid = ${oid} and a.attnum > 0 and not a.attisdropped
      order by a.attnum`;
    return found
      .map((column) => ({ ...column, place: names.indexOf(column.name) }))
      .filter(({ place }) => place >= 0)
      .map((column, at) => ({ ...column, at }));
  }

  async #selectable(sql: postgres.Sql | postgres.TransactionSql, oid: number, role: string): Promise<Set<string>> {
    const found = await sql<{ name: string }[]>`
      select a.attname as name from pg_attribute a
      where a.attrelid = ${oid} and a.attnum > 0 and not a.attisdropped
        and has_column_privilege(${role}::text, a.attrelid, a.attnum, 'select')`;
    return new Set(found.map(({ name }) => name));
  }
}

/** Tries again while the database does not answer: nobody would be told of these rows any more. */
async function persistently(work: () => Promise<void>): Promise<void> {
  for (let attempt = 1;; attempt += 1) {
    try {
      return await work();
    } catch (error) {
      // A data or a definition that cannot be read stays so.
      if (attempt >= ATTEMPTS || /^(22|42)/.test(String((error as { code?: unknown }).code))) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

interface Sight {
  readonly fault: string | null;
  readonly selectable: ReadonlySet<string>;
  readonly visible: ReadonlySet<number>;
}

function bySelect(bindings: readonly Binding[]): Map<readonly string[] | null, number[]> {
  const groups = new Map<readonly string[] | null, number[]>();
  for (const { select, id } of bindings) groups.set(select, [...groups.get(select) ?? [], id]);
  return groups;
}

function written(
  change: Change,
  shown: readonly Column[],
  news: readonly (string | null)[],
  olds: readonly (string | null)[],
  rls: boolean,
): string {
  const large = [...news, ...olds].reduce((size, text) => size + (text?.length ?? 0), 0) > MAX_RECORD;
  const object = (columns: readonly Column[], tuple: Tuple, cells: readonly (string | null)[]) =>
    `{${
      columns
        .filter(({ place }) => tuple[place] !== undefined)
        .map(({ name, at }) => [name, cells[at] ?? "null"] as const)
        .filter(([, text]) => !large || text.length <= SHORT)
        .map(([name, text]) => `${JSON.stringify(name)}:${text}`)
        .join(",")
    }}`;
  const identity = change.action === "DELETE" && rls ? shown.filter(({ primary }) => primary) : shown;
  return describe(
    change,
    shown,
    change.action === "DELETE" ? null : object(shown, change.row, news),
    change.action === "INSERT" || change.old === null ? null : object(identity, change.old, olds),
    large ? ["Error 413: Payload Too Large"] : null,
  );
}

function describe(
  { relation, action, committedAt }: Change,
  columns: readonly Column[],
  record: string | null,
  old: string | null,
  errors: readonly string[] | null,
): string {
  const head = JSON.stringify({
    schema: relation.schema,
    table: relation.table,
    // What is refused is told without a time, so that the Python client cannot even read it: so it is on the platform.
    commit_timestamp: record === null && old === null ? null : new Date(committedAt).toISOString(),
    type: action,
    errors,
    columns: columns.map(({ name, type }) => ({ name, type })),
  });
  return head.slice(0, -1) + (record === null ? "" : `,"record":${record}`) +
    (old === null ? "" : `,"old_record":${old}`) +
    "}";
}

function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

function listed(form: string, operator: string): string {
  return operator === "in" ? `${form}[]` : form;
}
