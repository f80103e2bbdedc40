"""Faults of content files: several at once, and what pydantic says in words that a person can act on."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from enum import Enum
from types import UnionType
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from agent.errors import ContentError

if TYPE_CHECKING:
    from agent.content.loading import Document

#: Where something stands in a file: keys of mappings, indexes (from 0) of lists.
Place = tuple[str | int, ...]


class ContentErrors(ContentError):
    """A file has several faults. `faults` holds them all; file, line and key are those of the first."""

    def __init__(self, faults: Sequence[ContentError]) -> None:
        first = faults[0]
        super().__init__(first.reason, file=first.file, line=first.line, key=first.key)
        self.faults = tuple(faults)
        self.args = ("\n".join(str(f) for f in faults),)


def one_error(faults: Sequence[ContentError]) -> ContentError:
    """The fault itself if there is one, else all of them in one error. `faults` is not empty."""
    return faults[0] if len(faults) == 1 else ContentErrors(faults)


def all_faults(error: ContentError) -> tuple[ContentError, ...]:
    """The single faults of an error."""
    return error.faults if isinstance(error, ContentErrors) else (error,)


def dotted(place: Place) -> str | None:
    """`("steps", 0, "with")` -> `steps.1.with`: items of a list count from 1. None for the file itself."""
    return ".".join(str(p + 1 if isinstance(p, int) else p) for p in place) or None


def near(word: str, known: Iterable[str]) -> str:
    """`; did you mean ...?` with the known words that come nearest, else nothing."""
    matches = difflib.get_close_matches(word, list(known), n=3)
    return f"; did you mean {' or '.join(f'`{m}`' for m in matches)}?" if matches else ""


def explain(error: ValidationError, document: Document, model: type[BaseModel]) -> list[ContentError]:
    """Every complaint of pydantic as a ContentError with its line and key."""
    faults = []
    for detail in error.errors():
        place: Place = tuple(p for p in detail["loc"] if p != "[key]")
        faults.append(document.fault(_reason(detail, model, place), document.known_place(place)))
    return faults


def _reason(detail: Any, model: type[BaseModel], place: Place) -> str:
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "missing":
        return f"the key `{place[-1]}` is missing"
    if kind == "extra_forbidden":
        known = keys_at(model, place[:-1])
        return f"unknown key `{place[-1]}`" + (near(str(place[-1]), known) or f"; known keys: {', '.join(known)}")
    if kind in ("literal_error", "enum"):
        options = options_at(model, place)
        listed = ", ".join(f"`{o}`" for o in options) or str(context.get("expected"))
        return f"{_shown(value)} is none of {listed}" + near(str(value), options)
    if kind.startswith("bool"):
        return f"expected `true` or `false`, found {_shown(value)}"
    if kind in ("int_parsing", "int_type", "float_parsing", "float_type", "int_from_float"):
        return f"expected a number, found {_shown(value)}"
    if kind in ("tuple_type", "list_type"):
        return f"expected a list, found {_shown(value)}"
    if kind in ("dict_type", "mapping_type", "model_type", "model_attributes_type"):
        return f"expected a mapping (`key: value`), found {_shown(value)}"
    if kind == "string_type":
        return f"expected text, found {_shown(value)}"
    if kind == "value_error":
        return str(context["error"])
    return f"{detail['msg'][:1].lower()}{detail['msg'][1:]}, found {_shown(value)}"


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = str(value)
    return f"`{text[:60]}…`" if len(text) > 60 else f"`{text}`"


def keys_at(model: type[BaseModel], place: Place) -> list[str]:
    """The keys that a file may have at a place, as they are written in YAML."""
    for annotation in _walk(model, place):
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return [f.alias or name for name, f in annotation.model_fields.items()]
    return []


def options_at(model: type[BaseModel], place: Place) -> list[str]:
    """The words that a file may have at a place where only some words are allowed."""
    found: list[str] = []
    for annotation in _walk(model, place):
        if isinstance(annotation, type) and issubclass(annotation, Enum):
            found += [str(member.value) for member in annotation]
        else:
            found += [a for a in get_args(annotation) if isinstance(a, str)]
    return found


def _walk(annotation: Any, place: Place) -> list[Any]:
    """The annotations that may describe a place below `annotation`, unions taken apart."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return [found for a in arguments for found in _walk(a, place)]
    if hasattr(annotation, "__metadata__"):
        return _walk(arguments[0], place)
    if not place:
        return [annotation]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            if place[0] in (field.alias, name):
                return _walk(field.annotation, place[1:])
        return []
    if origin is dict:
        # A fault of a key itself stands at the key.
        return _walk(arguments[1], place[1:]) or _walk(arguments[0], place[1:])
    if origin in (tuple, list):
        return _walk(arguments[0], place[1:])
    return []
