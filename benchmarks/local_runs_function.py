"""A function that does nothing, for runs whose cost is the dispatch alone."""

from __future__ import annotations

from agent.functions.base import Context, Function, Outcome, Parameters


class Nothing(Function[Parameters]):
    """Says that it was done."""

    name = "bench.nothing"
    summary = "Do nothing"
    Parameters = Parameters
    repeatable = True

    def preview(self, parameters: Parameters) -> str:
        return "do nothing"

    def do(self, context: Context, parameters: Parameters) -> Outcome:
        return Outcome.succeeded(number=1)
