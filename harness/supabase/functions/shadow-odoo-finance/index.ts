/** The finance shadow: projects and tasks of each Odoo, page by page: verify, call SQL, answer. See ../_shared/sync.ts. */

import { serve } from "../_shared/sync.ts";

serve("shadow-odoo-finance", "finance");
