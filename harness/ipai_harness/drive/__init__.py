"""Acts on Odoo as people do: through RPC, with a login."""
