"""The ways in which services cut a list into pages. Each says where the entries stand and what asks for the next page."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal
from urllib.parse import urljoin, urlsplit

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

#: A path into a JSON body: names divided by dots, empty for the body itself.
BodyPath = Annotated[str, Field(max_length=200, pattern=r"^([^.\s]+(\.[^.\s]+)*)?$")]
Query = Mapping[str, str]
#: Name in the query. A script writes `query_key`, for `parameter` is the word of another thing there.
Parameter = Annotated[str, Field(min_length=1, validation_alias=AliasChoices("parameter", "query_key"))]
_LINK = re.compile(r"<([^<>]*)>((?:\s*;\s*[\w!#$&+.^`|~-]+\*?\s*=\s*(?:\"[^\"]*\"|[^\s\",;]*))*)")
_REL = re.compile(r";\s*rel\s*=\s*(?:\"([^\"]*)\"|([^\s\",;]*))", re.IGNORECASE)


class Page(BaseModel):
    """One page as it came: `entries` is how many are on it, `before` how many were on the pages before."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    url: str
    query: Query
    body: Any
    link: str = ""
    entries: int
    before: int


class _Paging(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Where the list stands in the body.
    entries: BodyPath = ""

    def entries_of(self, body: Any) -> list[Any] | None:
        """The entries of a page, None when there is no list at that place."""
        found = at(body, self.entries)
        return found if isinstance(found, list) else None


class Whole(_Paging):
    """The list comes in one piece."""

    style: Literal["none"] = "none"

    def following(self, page: Page) -> str | Query | None:
        """There is no next page."""
        return None


class LinkHeader(_Paging):
    """The header `Link` names the next page by rel="next" (RFC 8288)."""

    style: Literal["link_header"] = "link_header"

    def following(self, page: Page) -> str | Query | None:
        """The address of the next page."""
        target = next_link(page.link)
        return urljoin(page.url, target) if target else None


class LinkInBody(_Paging):
    """The body has the address of the next page."""

    style: Literal["link_in_body"] = "link_in_body"
    next: BodyPath

    def following(self, page: Page) -> str | Query | None:
        """The address of the next page."""
        found = at(page.body, self.next)
        return urljoin(page.url, found) if isinstance(found, str) and found else None


class PageToken(_Paging):
    """The body has a token, which the next request gives back in its query."""

    style: Literal["page_token"] = "page_token"
    next: BodyPath
    parameter: Parameter

    def following(self, page: Page) -> str | Query | None:
        """The query with the token."""
        found = at(page.body, self.next)
        return {**page.query, self.parameter: str(found)} if isinstance(found, str | int) and found else None


class Offset(_Paging):
    """The query names the first entry: `startAt`, `offset`, or SCIM's `startIndex`, which counts from 1 (RFC 7644, 3.4.2.4)."""

    style: Literal["offset"] = "offset"
    parameter: Parameter
    first: Literal[0, 1] = 0
    #: Where the body says how many entries there are in all; empty: the list ends with an empty page.
    total: BodyPath = ""
    #: Where it says that this page is the last.
    last: BodyPath = ""

    def following(self, page: Page) -> str | Query | None:
        """The query with the next offset. The page's own length counts, for a service may give less than asked for."""
        seen = page.before + page.entries
        total = at(page.body, self.total) if self.total else None
        if not page.entries or (self.last and at(page.body, self.last) is True):
            return None
        if isinstance(total, int) and not isinstance(total, bool) and seen >= total:
            return None
        return {**page.query, self.parameter: str(self.first + seen)}


class PageNumber(_Paging):
    """The query names the number of the page."""

    style: Literal["page_number"] = "page_number"
    parameter: Parameter
    first: int = 1
    #: Where the body says how many pages there are; empty: the list ends with an empty page, or a short one.
    pages: BodyPath = ""
    #: Entries of a full page; 0: a page is never short.
    size: int = Field(0, ge=0)

    def following(self, page: Page) -> str | Query | None:
        """The query with the next number."""
        number = int(page.query.get(self.parameter, self.first))
        pages = at(page.body, self.pages) if self.pages else None
        if not page.entries or page.entries < self.size:
            return None
        if isinstance(pages, int) and number - self.first + 1 >= pages:
            return None
        return {**page.query, self.parameter: str(number + 1)}


Paging = Annotated[
    Whole | LinkHeader | LinkInBody | PageToken | Offset | PageNumber, Field(discriminator="style")
]  # fmt: skip
#: SCIM 2.0.
SCIM = Offset(entries="Resources", parameter="startIndex", first=1, total="totalResults")


def at(body: Any, path: str) -> Any:
    """The value at a path: names of members, or numbers of entries. None when there is nothing."""
    for name in path.split(".") if path else ():
        if isinstance(body, Mapping):
            body = body.get(name)
        elif isinstance(body, Sequence) and not isinstance(body, str) and name.isdecimal() and int(name) < len(body):
            body = body[int(name)]
        else:
            return None
    return body


def next_link(header: str) -> str | None:
    """The target of rel="next" in a `Link` header (several are divided by commas), None when there is none."""
    for target, parameters in _LINK.findall(header):
        rel = _REL.search(parameters)
        if rel and "next" in (rel[1] or rel[2]).lower().split():
            return str(target)
    return None


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of an address. Raises ValueError for one that has none."""
    parts = urlsplit(url)
    if not parts.hostname or parts.username is not None:
        raise ValueError("no address")
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
