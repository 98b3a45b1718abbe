"""Rules about Edge Functions: who is let in, and what happens when the secret is not there."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ipai_harness.audit.finding import Found, Severity, rule
from ipai_harness.audit.folder import SCRIPT, Project, SourceFile
from ipai_harness.audit.script_text import (
    EdgeFunction,
    called_code,
    edge_functions,
    entrypoint_of,
    function_names,
    script,
)

_SIGNATURE = re.compile(
    r"\bsubtle\s*\.\s*(?:verify|sign)\s*\(|\bcreateHmac\s*\(|\btimingSafeEqual\s*\(|\bconstructEvent(?:Async)?\s*\("
    r"|\bnew\s+Webhook\s*\(|\bverifyKey\s*\("
)
_IDENTITY = re.compile(r"\bauth\s*\.\s*(?:getUser|getClaims)\s*\(|\bjwtVerify\s*\(|\bdjwt\b|\bverifyJ[wW][tT]\s*\(")
_ENV = (
    r"(?:Deno\s*\.\s*env\s*\.\s*get|\benv(?:ironment)?(?:\s*\.\s*get)?|\bgetEnv)\s*\(\s*[\"'](?P<name>\w+)[\"']\s*\)"
    r"|\bprocess\s*\.\s*env\s*\.\s*(?P<dotted>\w+)"
)
# Not SUPABASE_…: the platform sets those, they are always there.
_SECRET_NAME = re.compile(r"(?!SUPABASE_).*(?:SECRET|TOKEN|PASSWORD|SIGNING|API_?KEY|SERVICE_ROLE)", re.IGNORECASE)
_ASSIGNED = re.compile(
    r"(?:\b(?:const|let|var)\s+)?(?P<name>[A-Za-z_$][\w$]*)\s*(?::[^=;()]+)?=\s*(?:await\s+)?\(?\s*$"
)
_CONNECTS = r"\b(?:fetch|createClient|postgres|new\s+(?:Pool|Client|WebSocket))\s*\(\s*(?:String\s*\(\s*)?"
_TARGET = r"\w*(?:url|dsn|host|endpoint|password|server)\w*"
_REQUEST_TARGET = re.compile(
    rf"{_CONNECTS}(?!(?:req|request)\s*\.\s*url\b)(?:req|request|body|payload|input|data|params|event)\b\s*[.\[]\s*"
    rf"(?:\w+\s*\.\s*)*[\"']?(?P<what>{_TARGET})",
    re.IGNORECASE,
)
_UNPACKED = re.compile(
    r"\b(?:const|let)\s*\{(?P<names>[^{}]*)\}\s*=\s*(?:await\s+(?:req|request)\s*\.\s*json\s*\(|(?:body|payload|input)\b)"
)


def _verify_jwt(project: Project, name: str) -> bool:
    return project.section("functions", name).get("verify_jwt", True) is not False


def _enabled(project: Project, name: str) -> bool:
    return project.section("functions", name).get("enabled", True) is not False


def _first(function: EdgeFunction, pattern: re.Pattern[str]) -> tuple[SourceFile, int] | None:
    for file, offset, code in called_code(function):
        if (match := pattern.search(code)) is not None:
            return file, file.line_of(offset + match.start())
    return None


@rule(
    "function-open", Severity.ERROR, "a function lets everybody in",
    why="verify_jwt is off, so the platform's gateway lets every request through, and nothing in the function's code, "
    "imports included, verifies a signature or a token: anybody who knows the URL is served.",
    fix="Verify the request in the function before anything else (an HMAC over the raw body, compared in constant "
    "time), or set verify_jwt = true for it in config.toml.",
    approximate=True,
)  # fmt: skip
def function_open(project: Project) -> Iterator[Found]:
    for function in edge_functions(project):
        if not _enabled(project, function.name) or _verify_jwt(project, function.name):
            continue
        if _first(function, _SIGNATURE) or _first(function, _IDENTITY):
            continue
        if any(_compares_secret(file) for file in function.modules):
            continue
        yield Found(f"{function.name}: verify_jwt = false, and the code verifies nothing", function.entrypoint.path, 1)


def _compares_secret(file: SourceFile) -> bool:
    """Whether a header is compared with something of the environment: weak, but not nothing; other rules judge how."""
    code = script(file.text).code
    return any(
        _SECRET_NAME.match(name) and (_compared_with(code, variable) if variable else _compared_here(file, end))
        for end, name, variable in _secret_reads(file)
    )


def _compared_here(file: SourceFile, end: int) -> bool:
    """Whether the line that reads the environment compares."""
    code = script(file.text).code
    start, stop = code.rfind("\n", 0, end) + 1, code.find("\n", end)
    return re.search(r"[!=]==?(?!=|>)", code[start : stop if stop >= 0 else len(code)]) is not None


def _compared_with(code: str, variable: str) -> bool:
    """Whether a variable is compared with a header, or with what holds one."""
    name = re.escape(variable)
    holds = re.findall(r"\b(?:const|let|var)\s+([A-Za-z_$][\w$]*)[^=;]*=[^=;][^;]*?\bheaders\s*\.\s*get\b", code)
    words = "|".join(map(re.escape, {*holds, "token", "given", "provided", "received"} - {variable}))
    other = rf"(?:headers\s*\.\s*get\s*\([^()]*\)|\b(?:{words})\b)"
    either = rf"{other}\s*[!=]==?\s*{name}\b|\b{name}\s*[!=]==?\s*[^;\n]*?{other}|{other}\s*[!=]==?\s*`[^`]*\b{name}\b"
    return re.search(either, code) is not None


@rule(
    "function-verified-twice", Severity.ERROR, "a function that verifies signatures stands behind the platform's check",
    why="verify_jwt is on (which is the default), and the function verifies a signature itself: the sender signs and "
    "has no JWT, so the gateway answers 401 before the function ever runs, and every event is refused.",
    fix="Set verify_jwt = false under [functions.<name>] in config.toml; the signature is the check.",
    approximate=True,
)  # fmt: skip
def function_verified_twice(project: Project) -> Iterator[Found]:
    for function in edge_functions(project):
        if not _enabled(project, function.name) or not _verify_jwt(project, function.name):
            continue
        place = _first(function, _SIGNATURE)
        if place is not None:
            line = project.config_line(f"functions.{function.name}]")
            said = f"{function.name}: verify_jwt is on, and {place[0].path}:{place[1]} verifies a signature"
            yield Found(said, "config.toml" if line else function.entrypoint.path, line or 1)


@rule(
    "function-undeclared", Severity.WARNING, "config.toml does not name a function that exists",
    why="What config.toml does not name is deployed with the defaults: verify_jwt on, the folder's own import map. A "
    "function whose sender has no JWT is then closed, and nobody has decided whether that is meant.",
    fix="Add [functions.<name>] with verify_jwt to config.toml, or remove the folder.",
)  # fmt: skip
def function_undeclared(project: Project) -> Iterator[Found]:
    if project.config_problem is not None:
        return
    for name in function_names(project):
        if name not in project.functions:
            yield Found(f"the function {name} is not in config.toml", entrypoint_of(project, name), 1)


@rule(
    "function-missing", Severity.ERROR, "config.toml names a function that does not exist",
    why="`supabase functions deploy` fails on it, or the old version stays deployed with nobody maintaining it.",
    fix="Add the function's entry point, or remove its section from config.toml and the function from the platform.",
)  # fmt: skip
def function_missing(project: Project) -> Iterator[Found]:
    for name in project.functions:
        if _enabled(project, name) and entrypoint_of(project, name) is None:
            line = project.config_line(f"functions.{name}]")
            yield Found(f"no entry point of the function {name} is in the folder", "config.toml", line)


@rule(
    "function-request-target", Severity.ERROR, "a function connects to where the request says",
    why="Whoever sends the request chooses which host the function talks to, from inside the platform and with its "
    "credentials: internal addresses can be reached, and secrets sent to a stranger.",
    fix="Take addresses and passwords from the environment only, never from a request.",
    approximate=True,
)  # fmt: skip
def function_request_target(project: Project) -> Iterator[Found]:
    for file in _scripts(project):
        plain = script(file.text).plain
        for match in _REQUEST_TARGET.finditer(plain):
            yield Found(f"{match['what']} comes from the request", file.path, file.line_of(match.start()))
        for unpacked in _UNPACKED.finditer(plain):
            for name in re.findall(rf"\b{_TARGET}", unpacked["names"], re.IGNORECASE):
                for match in re.finditer(rf"{_CONNECTS}{re.escape(name)}\b", plain):
                    yield Found(f"{name} comes from the request", file.path, file.line_of(match.start()))


def _scripts(project: Project) -> list[SourceFile]:
    return [
        file for file in project.under("functions/", *SCRIPT)
        if not re.search(r"(?:[._]test|[._]spec)\.\w+$", file.path)
    ]  # fmt: skip


def _secret_reads(file: SourceFile) -> Iterator[tuple[int, str, str | None]]:
    """Where the environment is read: the place behind it, the setting's name, the variable it goes into."""
    plain = script(file.text).plain
    for match in re.finditer(_ENV, plain):
        before = plain[max(0, match.start() - 120) : match.start()]
        assigned = _ASSIGNED.search(re.sub(r"[\w$.]+$", "", before))
        yield match.end(), match["name"] or match["dotted"], assigned["name"] if assigned else None


@rule(
    "secret-default", Severity.ERROR, "a secret has a default",
    why="When the setting is forgotten, the function goes on with a value that everybody can read in the source, or "
    "with the empty string: signatures made with it are accepted, and the door is open.",
    fix="Refuse to serve (500) when the secret is not set: no default.",
    approximate=True,
)  # fmt: skip
def secret_default(project: Project) -> Iterator[Found]:
    for file in _scripts(project):
        plain, code = script(file.text).plain, script(file.text).code
        for end, name, variable in _secret_reads(file):
            default = re.compile(r"\s*!?\s*\)?\s*(?:\?\?|\|\|)\s*(?:[\"'`]|[A-Z][A-Z_]{2,}\b)").match(plain, end)
            if default and _SECRET_NAME.match(name) and not (variable and _guarded(code, variable)):
                said = f"{name} has a default, and its absence is not refused"
                # A key for calling others opens nothing here when it is missing.
                outgoing = re.search(r"API_?KEY", name, re.IGNORECASE) and not (
                    variable and _compared_with(code, variable)
                )
                yield Found(said, file.path, file.line_of(end), severity=Severity.WARNING if outgoing else None)


def _guarded(code: str, variable: str) -> bool:
    """Whether a branch that throws or returns asks if the variable, or what is made of it, is empty."""
    names = {variable}
    for _ in range(4):
        known = "|".join(map(re.escape, sorted(names)))
        made = re.findall(rf"\b(?:const|let)\s+([A-Za-z_$][\w$]*)[^=;]*=[^=;][^;]*\b(?:{known})\b", code)
        if names >= set(made):
            break
        names |= set(made)
    known = "|".join(map(re.escape, sorted(names)))
    empty = (
        rf"!\s*(?:{known})\b(?!\s*[.(\[])"
        rf"|\b(?:{known})\b(?:\s*\.\s*\w+)?\s*(?:===?|<=?)\s*(?:[\"'`\d]|null|undefined|[A-Z_]+\b)"
    )
    return (
        re.search(rf"\bif\s*\([^{{;]*(?:{empty})[^{{;]*\)\s*\{{?\s*(?:[^}}]{{0,400}}?\b)?(?:throw|return)\b", code)
        is not None
    )


@rule(
    "secret-compared-unset", Severity.ERROR, "a token is compared with a setting that may be missing",
    why="Where the setting is not there, both sides may be undefined, null or \"undefined\", and then they are equal: "
    "the request that sends no token, or the word undefined, is let in.",
    fix="Refuse (500) when the setting is missing, before comparing; compare digests in constant time.",
    approximate=True,
)  # fmt: skip
def secret_compared_unset(project: Project) -> Iterator[Found]:
    for file in _scripts(project):
        read = script(file.text)
        for end, name, variable in _secret_reads(file):
            if not _SECRET_NAME.match(name):
                continue
            direct = variable is None and _compared_here(file, end)
            through = (
                variable is not None
                and re.match(r"\s*!?\s*\)?\s*(?:\?\?|\|\|)", read.plain[end:]) is None
                and not _guarded(read.code, variable)
                and _compared_with(read.code, variable)
            )
            if direct or through:
                said = f"{name} is compared with what the request holds, and may be unset"
                yield Found(said, file.path, file.line_of(end))


@rule(
    "secret-check-skipped", Severity.ERROR, "the check is made only when the secret is set",
    why="`if (secret) { verify }` verifies nothing where the setting was forgotten: the function works, so nobody "
    "notices, and everybody is let in.",
    fix="Turn it round: `if (!secret)` answer 500 and stop; then always verify.",
    approximate=True,
)  # fmt: skip
def secret_check_skipped(project: Project) -> Iterator[Found]:
    for file in _scripts(project):
        for _, name, variable in _secret_reads(file):
            if not _SECRET_NAME.match(name):
                continue
            word = re.escape(variable) if variable else rf"(?:[\w.]+\.)?(?:get\(\s*[\"']{name}[\"']\s*\)|{name})"
            branch = re.compile(
                rf"\bif\s*\(\s*(?:!!\s*)?{word}\s*(?:(?:&&|!==?\s*(?:undefined|null))[^{{;]*)?\)\s*\{{?[^}}]*?"
                r"(?:verify|timingSafeEqual|createHmac|[Ss]ignature|Unauthorized|401|403)"
            )
            match = branch.search(script(file.text).plain)
            if match:
                yield Found(f"nothing is checked when {name} is not set", file.path, file.line_of(match.start()))


@rule(
    "signature-timing", Severity.WARNING, "a signature is compared with ===",
    why="Such a comparison ends at the first difference, so its time tells how much of a guessed signature was right.",
    fix="Let crypto.subtle.verify compare, or timingSafeEqual.",
    approximate=True,
)  # fmt: skip
def signature_timing(project: Project) -> Iterator[Found]:
    word = r"\b(?:\w*[sS]ignature|\w*[hH]mac|\w*[dD]igest|expected\w*)\b"
    both = re.compile(rf"{word}\s*[!=]==?\s*(?!null\b|undefined\b){word}")
    for file in _scripts(project):
        for match in both.finditer(script(file.text).code):
            yield Found("a signature is compared character by character", file.path, file.line_of(match.start()))


RULES = (
    function_open, function_verified_twice, function_undeclared, function_missing, function_request_target,
    secret_default, secret_compared_unset, secret_check_skipped, signature_timing,
)  # fmt: skip
