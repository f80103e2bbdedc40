"""Reading a monitor's SQL word by word: its parameters, the names in it, and whether it is one SELECT.

This is not what keeps a query from writing (the connection does that, see `query`); it gives early and clear refusals,
and on PostgreSQL it finds the names that a read-only transaction would still let through.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from agent.errors import MonitorQueryError

_TOKEN = re.compile(
    r"""
    (?P<space>\s+|--[^\n]*|/\*(?:(?!/\*).)*?\*/)
  | (?P<escaped>[eE]'(?:[^'\\]|\\.|'')*')
  | (?P<refused>[uU]&["']|/\*|\$)
  | (?P<string>[bBnNxX]?'(?:[^']|'')*')
  | (?P<quoted>"(?:[^"]|"")*")
  | (?P<cast>::)
  | :(?P<parameter>[A-Za-z_]\w*)
  | (?P<name>[^\W\d][\w$]*)
  | (?P<number>\d[\w.]*)
  | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class QueryText:
    """One SELECT, without its last semicolon."""

    text: str
    #: Names after a colon, outside strings and comments.
    parameters: frozenset[str]
    #: Every identifier, keyword and function name; unquoted ones in lower case.
    names: frozenset[str]
    #: (kind, text) of each token.
    tokens: tuple[tuple[str, str], ...]

    def with_percent_parameters(self) -> str:
        """The text with `%(name)s` for `:name`, as psycopg binds."""
        return "".join(f"%({t})s" if kind == "parameter" else t.replace("%", "%%") for kind, t in self.tokens)


@lru_cache(maxsize=256)
def read_query(sql: str) -> QueryText:
    """Raises MonitorQueryError for anything but one SELECT, WITH or VALUES, and for spellings that hide names."""
    tokens = _tokens(sql)
    while tokens and (tokens[-1][0] == "space" or tokens[-1][1] == ";"):
        tokens.pop()
    words = [token for token in tokens if token[0] != "space"]
    if not words:
        raise MonitorQueryError("the query is empty")
    if any(text == ";" for kind, text in words if kind == "other"):
        raise MonitorQueryError("the query is more than one statement: a monitor has exactly one SELECT")
    if words[0][1].lower() not in ("select", "with", "values"):
        raise MonitorQueryError(f"the query begins with {words[0][1]!r}: a monitor only reads, with SELECT or WITH")
    return QueryText(
        text="".join(f":{t}" if kind == "parameter" else t for kind, t in tokens),
        parameters=frozenset(t for kind, t in words if kind == "parameter"),
        names=frozenset(_plain(kind, t) for kind, t in words if kind in ("name", "quoted")),
        tokens=tuple(tokens),
    )


def _tokens(sql: str) -> list[tuple[str, str]]:
    if "\0" in sql:
        raise MonitorQueryError("the query holds a NUL character")
    tokens: list[tuple[str, str]] = []
    for match in _TOKEN.finditer(sql):
        kind = match.lastgroup or "other"
        if kind == "refused" or (kind == "other" and match[kind] in "'\""):
            line = sql.count("\n", 0, match.start()) + 1
            raise MonitorQueryError(
                f"line {line} of the query: {match[kind]!r} is not read here: nested or open comments, open strings, "
                "dollar quotes and U& spellings are refused"
            )
        tokens.append((kind, match[kind]))
    return tokens


def _plain(kind: str, text: str) -> str:
    return text[1:-1].replace('""', '"') if kind == "quoted" else text.lower()
