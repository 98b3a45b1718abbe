"""Drift, explained: how Odoo, Supabase's shadow and the plan differ, and why, row by row.

    views of Supabase ─┐                  facts about each ─▶ one reason each ─▶ text, JSON
    Odoo, the shadow ──┴▶ differences ─▶  (outbox, inbox, runs, tombstones, Odoo)  └▶ what --reconcile queues

`views` reads Supabase, `observed` Odoo and the outbox; `explain` is pure; `reconcile` is all that writes.
"""
