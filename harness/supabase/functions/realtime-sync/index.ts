/** Realtime's state, and the summary that is broadcast on the channel odoo-sync. See ../_shared/realtime.ts. */

import { serve } from "../_shared/realtime.ts";

serve("realtime-sync");
