"""What the README, the workflow and the metadata say is so. Each check is shown to fail on a planted falsehood."""

from __future__ import annotations

import argparse
import configparser
import contextlib
import importlib
import inspect
import io
import itertools
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

import ipai_bridge
import ipai_bridge.cli
import ipai_harness.cli
from ipai_bridge.settings import SETTINGS, resolve

ROOT = Path(__file__).resolve().parents[1]


def text_of(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


# --- settings

WITHOUT_DEFAULT = ("url", "secret", "secret_file", "odoo_url", "odoo_db", "odoo_login", "odoo_password")
DEFAULT_IN_WORDS = dict.fromkeys(WITHOUT_DEFAULT, "") | {"dsn": "from odoo.conf"}


def table_rows(text: str, first: str) -> Iterator[list[str]]:
    """The cells of the table whose first heading is `first`."""
    lines = text.splitlines()
    for line in itertools.takewhile(lambda line: line.startswith("|"), lines[lines.index(first) + 2 :]):
        yield [cell.strip() for cell in line.strip("|").split("|")]


def wrong_settings(readme: str) -> list[str]:
    said: dict[str, str] = {}
    for names, defaults, *_ in table_rows(readme, "| name | default | |"):
        known = re.findall(r"`(\w+)`", names)
        values = defaults.replace("`", "").split(", ") if defaults else [""] * len(known)
        said.update(zip(known, values, strict=True))
    found = [f"{name} is not in the table" for name in SETTINGS if name not in said]
    for name, value in said.items():
        if name not in SETTINGS:
            found.append(f"{name} is not a setting")
        elif name in DEFAULT_IN_WORDS:
            if value != DEFAULT_IN_WORDS[name]:
                found.append(f"{name}: {value}")
        elif getattr(resolve({name: value}, only=(name,)).settings, name) != getattr(resolve().settings, name):
            found.append(f"{name}: {value} is not the default")
    return found


def test_the_table_of_settings() -> None:
    assert wrong_settings(text_of("README.md")) == []


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("| `instance` | `default` |", "| `instance` | `main` |", "instance: main is not the default"),
        ("| 10 s, 60 s |", "| 10 s, 90 s |", "lease: 90 s is not the default"),
        ("| `poll_interval` |", "| `poll_every` |", "poll_interval is not in the table"),
        ("| `relay` | `process` |", "| `relay`, `colour` | process, red |", "colour is not a setting"),
        ("3 d | exp", "4 d | exp", "retry_for: 4 d is not the default"),
    ],
)
def test_a_wrong_setting_is_found(old: str, new: str, found: str) -> None:
    readme = text_of("README.md")
    assert old in readme
    assert found in wrong_settings(readme.replace(old, new))


# --- commands

PARSERS: dict[str, Callable[[], argparse.ArgumentParser]] = {
    "ipai-bridge": ipai_bridge.cli.make_parser,
    "ipai-harness": ipai_harness.cli.parser,
}
STANDS_FOR = {"<id>": "019b76da-a87b-7000-8000-00000000abcd", "<database>": "prod", "…": "x"}
_COMMAND = re.compile(r"(?<![\w-])(ipai-bridge|ipai-harness)((?: +[^\s`|&;()<>\"#]+)+)")


def code_of(markdown: str) -> str:
    """What stands between backquotes, and in blocks of code."""
    blocks = re.findall(r"^ *```\w*\n(.*?)^ *```", markdown, re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`([^`]+)`", re.sub(r"^ *```.*?^ *```", "", markdown, flags=re.MULTILINE | re.DOTALL))
    return "\n".join([*blocks, *spans])


def commands_in(markdown: str) -> list[list[str]]:
    code = code_of(markdown)
    for placeholder, value in STANDS_FOR.items():
        code = code.replace(placeholder, value)
    code = re.sub(r"pip install .*", "", code)
    return [[name, *shlex.split(rest)] for name, rest in _COMMAND.findall(code)]


def wrong_commands(markdown: str) -> list[str]:
    found = []
    for name, *arguments in commands_in(markdown):
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
                PARSERS[name]().parse_args(arguments)
        except SystemExit as end:
            if end.code == 0:  # --version, --help
                continue
            found.append(f"{name} {shlex.join(arguments)}: {said.getvalue().splitlines()[-1]}")
    return found


@pytest.mark.parametrize("path", ["README.md", "SECURITY.md", "CHANGELOG.md", "docs/performance.md"])
def test_the_commands_that_are_named_exist(path: str) -> None:
    assert wrong_commands(text_of(path)) == []


def test_the_commands_are_found() -> None:
    found = [" ".join(command[:3]) for command in commands_in(text_of("README.md"))]
    assert {"ipai-bridge outbox purge", "ipai-bridge relay -c", "ipai-harness env --json"} <= set(found)
    assert len(found) >= 10


def test_the_examples_in_the_help_are_right() -> None:
    def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
        yield parser
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for child in action.choices.values():
                    yield from parsers(child)

    epilogs = [parser.epilog or "" for parser in parsers(ipai_bridge.cli.make_parser())]
    examples = [line for epilog in epilogs for line in epilog.replace("\\\n", " ").splitlines() if " ipai-" in line]
    assert len(examples) >= 10
    lines = [re.sub(r"--(?:older-than) \w+", r"--older-than 30d", line).replace(" ID", " <id>") for line in examples]
    lines = [
        re.sub(r"'[^']*: …?[^']*'", "x", line) for line in lines if "exit" not in line and "ipai-bridge:" not in line
    ]
    assert wrong_commands("```sh\n" + "\n".join(lines) + "\n```") == []


@pytest.mark.parametrize(
    "planted",
    [
        "`ipai-bridge deliver`",
        "`ipai-bridge relay --twice`",
        "```sh\nipai-harness up --loud\n```",
        "`ipai-harness fly`",
    ],
)
def test_a_wrong_command_is_found(planted: str) -> None:
    assert len(wrong_commands(text_of("README.md") + planted)) == 1


# --- the public names


def wrong_names(package: object) -> list[str]:
    names = list(getattr(package, "__all__", []))
    found = [] if names == sorted(names) and names else ["__all__ is not sorted, or is empty"]
    for name in names:
        value = getattr(package, name, None)
        if value is None:
            found.append(f"{name} is not there")
        elif not (inspect.getdoc(value) or "").strip():
            found.append(f"{name} is not documented")
    return found


def test_the_public_names() -> None:
    assert wrong_names(importlib.import_module("ipai_bridge")) == []
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ipai_bridge.nothing


def test_a_wrong_public_name_is_found() -> None:
    class Package:
        __all__ = ("b", "a", "gone")

        @staticmethod
        def a() -> None: ...

        @staticmethod
        def b() -> None:
            """Documented."""

    assert wrong_names(Package) == ["__all__ is not sorted, or is empty", "a is not documented", "gone is not there"]


def version_in(changelog: str) -> str:
    match = re.search(r"^## (\S+)", changelog, re.MULTILINE)
    assert match
    return match[1]


def test_the_version_is_the_changelogs_newest() -> None:
    assert version_in(text_of("CHANGELOG.md")) == ipai_bridge.__version__
    assert version_in("# Changelog\n\n## 9.9 - unreleased\n\n## 0.1.0\n") == "9.9"


# --- tox, the workflow, the hooks


def expanded(names: str) -> Iterator[str]:
    """The names of `a, py3{10,11}`."""
    for name in re.findall(r"(?:[^,{\s]|\{[^}]*\})+", names):
        parts = re.split(r"\{([^}]*)\}", name)
        yield from map("".join, itertools.product(*[part.split(",") for part in parts]))


def tox_environments(ini: str) -> set[str]:
    parser = configparser.RawConfigParser()
    parser.read_string(ini)
    sections = {name.removeprefix("testenv:") for name in parser.sections() if name.startswith("testenv:")}
    return sections | set(expanded(parser["tox"]["env_list"]))


def tox_environments_named(text: str) -> set[str]:
    named = {name for group in re.findall(r"tox -e ([a-z0-9_,-]+)", text) for name in group.split(",")}
    if '-e "py$(echo' in text:
        named |= {f"py{version.replace('.', '')}" for version in pythons_of_the_workflow(text)}
    return named


def pythons_of_the_workflow(text: str) -> list[str]:
    match = re.search(r"python: \[(.*)\]", text)
    assert match
    return re.findall(r'"([\d.]+)"', match[1])


@pytest.mark.parametrize("path", ["README.md", ".github/workflows/ci.yml", ".pre-commit-config.yaml", "CHANGELOG.md"])
def test_the_tox_environments_that_are_named_exist(path: str) -> None:
    assert tox_environments_named(text_of(path)) - tox_environments(text_of("tox.ini")) == set()


def test_a_wrong_tox_environment_is_found() -> None:
    environments = tox_environments(text_of("tox.ini"))
    assert {"lint", "types", "py310", "py313", "e2e", "docker", "demo", "package"} <= environments
    assert tox_environments_named("python3 -m tox -e lint,fly") - environments == {"fly"}
    workflow = text_of(".github/workflows/ci.yml").replace('"3.13"', '"3.99"')
    assert tox_environments_named(workflow) - environments == {"py399"}


def test_every_promised_environment_runs_on_ci() -> None:
    parser = configparser.RawConfigParser()
    parser.read_string(text_of("tox.ini"))
    promised = set(expanded(parser["tox"]["env_list"]))
    assert promised - tox_environments_named(text_of(".github/workflows/ci.yml")) == set()


def test_the_pythons_are_the_same_everywhere() -> None:
    classifiers = re.findall(r"Python :: (3\.\d+)", text_of("pyproject.toml"))
    assert classifiers == pythons_of_the_workflow(text_of(".github/workflows/ci.yml"))
    environments = tox_environments(text_of("tox.ini"))
    assert {f"py{version.replace('.', '')}" for version in classifiers} == {
        name for name in environments if re.fullmatch(r"py\d+", name)
    }
    assert f'requires-python = ">={classifiers[0]}"' in text_of("pyproject.toml")


def calls_tox(script: str) -> bool:
    return any(re.match(r"\s*(exec )?python3 -m tox\b", line) for line in script.splitlines())


def test_the_script_of_ci_calls_tox() -> None:
    assert calls_tox(text_of(".ci/run"))
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111
    assert not calls_tox("#!/bin/sh\n# python3 -m tox\npython3 -m pip install tox\n")


# --- what stands nowhere

# Written apart, so that they do not stand here either.
_HOSTS = ("pypi" + r"\.org", "files" + r"\.pythonhosted\.org", "registry" + r"\.npmjs\.org", "deb" + r"\.debian\.org")
_PATHS = (
    r"(?<![\w.<])/" + r"root(?![\w-])",
    r"(?<![\w.])/" + r"work(?![\w-])",
    "/tmp/" + "venv",
    r"/home/" + r"[a-z]+/",
)
_NOWHERE = re.compile("|".join((*_HOSTS, *_PATHS)))


def committed() -> list[Path]:
    """The files of the repository; of an unpacked source distribution, all that is not hidden or made."""
    if (ROOT / ".git").exists() and shutil.which("git"):
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
        return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]
    return [
        path
        for path in ROOT.rglob("*")
        if path.is_file()
        and not re.search(r"/(\.(?!ci|github)\w|__pycache__|build|dist|venv)", f"/{path.relative_to(ROOT)}")
    ]


def misplaced(files: Iterable[Path]) -> list[str]:
    found = []
    for path in files:
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            found += [f"{path.name}:{number}: {match[0]}" for match in _NOWHERE.finditer(line)]
    return found


def test_no_path_of_a_machine_and_no_registry_is_named() -> None:
    files = committed()
    assert len(files) > 100
    assert misplaced(files) == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("cd /" + "work/main", True),
        ("HOME=/" + "root", True),
        ("/tmp/" + "venv-x/bin/python", True),
        ("https://" + "pypi" + ".org/simple", True),
        ("https://files." + "pythonhosted.org/x", True),
        ("http://deb." + "debian.org/debian", True),
        ("https://registry." + "npmjs.org", True),
        ("http://localhost:3141/simple and http://127.0.0.1", False),
        ("frame/work ./root /rooms /workers </root>", False),
    ],
)
def test_a_misplaced_one_is_found(tmp_path: Path, line: str, found: bool) -> None:
    (tmp_path / "file").write_text(f"first\n{line}\n")
    said = misplaced([tmp_path / "file"])
    assert bool(said) is found
    assert all(one.startswith("file:2: ") for one in said)
