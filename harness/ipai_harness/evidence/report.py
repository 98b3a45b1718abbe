"""The run's evidence as files: `evidence.json`, and `evidence.html`, one file that opens offline."""

from __future__ import annotations

import html
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ipai_harness.evidence.collect import Scenario

__all__ = ["load_parts", "write", "write_part"]

PAGE = Path(__file__).with_name("page.html")
_PARTS = ".parts"


def write_part(directory: Path, scenario: Scenario, name: str) -> None:
    """One scenario's evidence, for `load_parts`: workers of a parallel run write side by side."""
    parts = directory / _PARTS
    parts.mkdir(parents=True, exist_ok=True)
    (parts / f"{name}.json").write_text(json.dumps(asdict(scenario), default=str))


def load_parts(directory: Path) -> list[dict[str, Any]]:
    """What the workers wrote, in the features' order; their files are gone afterwards."""
    parts = directory / _PARTS
    files = sorted(parts.glob("*.json")) if parts.is_dir() else []
    found = [json.loads(file.read_text()) for file in files]
    for file in files:
        file.unlink()
    if parts.is_dir():
        parts.rmdir()
    return sorted(found, key=lambda one: (one["file"], one["line"], one["name"]))


def write(directory: Path, facts: Mapping[str, Any], scenarios: Sequence[Mapping[str, Any]]) -> Path:
    """Write both files; the path of the page."""
    directory.mkdir(parents=True, exist_ok=True)
    counts = Counter(str(one["status"]) for one in scenarios)
    (directory / "evidence.json").write_text(
        json.dumps({"run": {**facts, "counts": counts}, "scenarios": list(scenarios)}, indent=1, default=str)
    )
    summary = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    said = " · ".join(f"{key}: {value}" for key, value in facts.items())
    page = PAGE.read_text()
    body = "\n".join(_scenario(one) for one in scenarios)
    for mark, text in (("<!-- summary -->", html.escape(summary)), ("<!-- facts -->", html.escape(said))):
        page = page.replace(mark, text)
    path = directory / "evidence.html"
    path.write_text(page.replace("<!-- scenarios -->", body))
    return path


def _scenario(one: Mapping[str, Any]) -> str:
    status = str(one["status"])
    inner = "".join([
        f"<p class=reason>{html.escape(str(one['reason']))}</p>" if one["reason"] else "",
        _steps(one["steps"]),
        _block("Events", "\n".join(one["events"])),
        _exchanges(one["exchanges"]),
        *(_block(f"{table} ({len(rows)})", _json(rows)) for table, rows in one["rows"].items()),
        *(_block(f"log of {name}", text) for name, text in one["logs"].items() if text),
    ])  # fmt: skip
    head = (
        f"<span class='badge {html.escape(status.replace(' ', '-'))}'>{html.escape(status)}</span> "
        f"{html.escape(one['name'])} <small>{html.escape(one['feature'])} · {html.escape(one['file'])}:{one['line']} · "
        f"{one['seconds']:.1f} s{' · ' if one['instance'] else ''}{html.escape(one['instance'])}</small>"
    )
    shown = " open" if status == "failed" else ""
    return f"<details class=scenario{shown}><summary>{head}</summary>{inner}</details>"


def _steps(steps: Iterable[Mapping[str, Any]]) -> str:
    rows = "".join(
        f"<tr class='{html.escape(step['status'].replace(' ', '-'))}'><td>{html.escape(step['keyword'])}</td>"
        f"<td>{html.escape(step['text'])}{_error(step['error'])}</td><td>{step['seconds'] * 1000:,.0f} ms</td></tr>"
        for step in steps
    )
    return f"<table class=steps>{rows}</table>"


def _error(text: str) -> str:
    return f"<pre>{html.escape(text)}</pre>" if text else ""


def _exchanges(exchanges: Sequence[Mapping[str, Any]]) -> str:
    return "".join(
        _block(
            f"{one['at']} {one['request']} → {one['status']} ({one['ms']} ms) · signature {one['signature']}",
            f"{_json(one['headers'])}\n\n{_json(one['body'])}\n\n→ {one['status']}\n{_json(one['answer_headers'])}\n\n"
            f"{_json(one['answer'])}",
        )
        for one in exchanges
    )


def _block(title: str, text: str) -> str:
    return f"<details><summary>{html.escape(title)}</summary><pre>{html.escape(text)}</pre></details>" if text else ""


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=1, ensure_ascii=False, default=str)
