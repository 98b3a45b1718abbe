"""The proof of ipai_bridge: real Odoo CE, real PostgreSQL and the Supabase side, started, driven and observed."""

from __future__ import annotations
