"""Business events out of Odoo and into Supabase."""

from __future__ import annotations

__version__ = "0.1.0"
