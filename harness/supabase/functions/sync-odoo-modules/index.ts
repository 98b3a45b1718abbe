/** The module inventory of each Odoo, page by page: verify, call SQL, answer. See ../_shared/sync.ts. */

import { serve } from "../_shared/sync.ts";

serve("sync-odoo-modules", "modules");
