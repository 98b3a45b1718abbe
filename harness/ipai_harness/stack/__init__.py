"""The stack under test, without Docker: real PostgreSQL, real Odoo CE, a real Edge Function, the relay."""

from __future__ import annotations
