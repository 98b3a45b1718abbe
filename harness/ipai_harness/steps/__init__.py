"""The steps of the acceptance suite, by side: `odoo` acts, `delivery` disturbs, `supabase` looks.

`features/conftest.py` names one plugin, `ipai_harness.steps.plugin`, which brings everything along. A scenario has one
`World` (world.py): an instance name of its own, the records that its sentences name, and what is to be undone after it.
A step waits for what it says, until a deadline (waiting.py); one that fails tells what it saw last.
"""
