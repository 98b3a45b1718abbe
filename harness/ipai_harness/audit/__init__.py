"""The security audit: what of a Supabase project stands open, in its folder and in its database.

`audit.run(project=…, dsn=…)` gives a Report; `ipai-harness audit` prints it. The folder is read offline and taken for
hostile; the database is only asked for its catalogues, in a read-only transaction, by any role that can log in. A rule
is one small function with an id, a severity, the why and the fix; one that had to guess from text says "approximate".

A finding that is meant to be so is allowed in its file, on the line itself or on the one above, with the reason:

    -- ipai-audit: allow sql-anon-grant because the price list is public

What was allowed is counted in the report. No secret is ever printed: only where it is, and a fingerprint.
"""

from __future__ import annotations

from ipai_harness.audit.finding import Finding, Found, Report, Rule, Severity
from ipai_harness.audit.runner import DATABASE_RULES, PROJECT_RULES, run

__all__ = ["DATABASE_RULES", "PROJECT_RULES", "Finding", "Found", "Report", "Rule", "Severity", "run"]
