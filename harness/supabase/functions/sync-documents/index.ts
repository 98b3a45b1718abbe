/** Documents of each Odoo, page by page: verify, call SQL, add leave to upload what is wanted. See ../_shared/sync.ts. */

import { serve } from "../_shared/sync.ts";
import { withUploads } from "../_shared/uploads.ts";

serve("sync-documents", "documents", withUploads((variable) => Deno.env.get(variable), fetch));
