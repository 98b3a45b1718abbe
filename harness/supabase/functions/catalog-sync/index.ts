/**
 * The catalog of assets: verify, call SQL, answer. See ../_shared/sync.ts; what an action means, SQL says (catalog.request).
 *
 *   {"action": "sync_odoo_models", "step": "begin", "run": uuid, "full": true, "database": name, "edition": "ce"}
 *   {"action": "sync_odoo_models", "step": "page", "run": uuid, "entity": "ir.model", "span": [after, upto], "rows": […]}
 *   {"action": "sync_odoo_models", "step": "finish", "run": uuid, "cursors": {}}
 *       The run protocol of every sync, with its action as `step`. A row is {"raw": {"id", "model", "name", "kind", "state",
 *       "fields": {name: {"type", "label", …}}}}. What a span leaves out is archived; an interrupted run archives nothing more.
 *   {"action": "sync_scout_views"}                                        the tables and views of this database, and lineage
 *   {"action": "register_asset", "fqdn", "type", "title"?, "metadata"?}
 *   {"action": "search_assets", "query", "type"?, "within"?: "odoo.prod.*", "limit"?: 20}
 *   {"action": "get_tools", "name"?, "fqdn"?}
 *   {"action": "get_lineage", "fqdn", "direction"?: "up" | "down" | "both", "depth"?: 5, "kinds"?: ["refers_to", …]}
 *   {"action": "check_permission", "principals": ["role:finance", …] and/or "claims": {…}, "operation": "read", "fqdn"}
 */

import { serve } from "../_shared/sync.ts";

serve("catalog-sync", "catalog");
