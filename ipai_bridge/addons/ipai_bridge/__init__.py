"""The server-wide Odoo module: hands the face to server actions, and looks after the inline relay. No models.

Each hook wraps one method of Odoo's own. If a method is not there (another Odoo version), loading fails with its name,
rather than leaving server actions without `ipai_bridge`.
"""

from __future__ import annotations

import functools
import logging

_logger = logging.getLogger(__name__)


def post_load() -> None:
    """Called by Odoo when it has loaded this module, before any database."""
    from odoo.addons.base.models.ir_actions import IrActionsServer
    from odoo.addons.base.models.ir_cron import IrCron
    from odoo.service.server import CommonServer

    from ipai_bridge import __version__, bridge
    from ipai_bridge.server_action import FACE

    get_eval_context = IrActionsServer._get_eval_context

    @functools.wraps(get_eval_context)
    def _get_eval_context(self, action=None):
        context = get_eval_context(self, action=action)
        context["ipai_bridge"] = FACE
        return context

    IrActionsServer._get_eval_context = _get_eval_context

    # Odoo calls this for each database, about once a minute, in threads (threaded server) and in cron workers
    # (prefork) alike: the one place from which a relay can start without anybody having emitted.
    process_jobs = IrCron._process_jobs

    @functools.wraps(process_jobs)
    def _process_jobs(db_name):
        bridge.ensure_inline_relay(db_name)
        return process_jobs(db_name)

    IrCron._process_jobs = staticmethod(_process_jobs)
    CommonServer.on_stop(bridge.stop_inline_relays)
    _logger.info("ipai_bridge %s is in server actions", __version__)
