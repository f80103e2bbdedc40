"""A system of the tests' own: what was done in it is a line in a file, so that it outlives the process that did it."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from agent.errors import StepError
from agent.functions.base import Context, Function, Outcome, Parameters
from agent.inventory import field_values
from agent.model.fields import Form


class ActParameters(Parameters):
    """`folder` holds the file; the rest is written into it."""

    folder: str
    act: str
    user: str
    fail: str = ""


class Close(Function[ActParameters]):
    """Writes `client contact act user`."""

    name = "demo.close"
    summary = "Close an account of the tests' system"
    Parameters = ActParameters
    destructive = True
    repeatable = True

    def _line(self, context: Context, parameters: ActParameters) -> str:
        return f"{context.client_id} {context.target_id} {parameters.act} {parameters.user}"

    def preview(self, parameters: ActParameters) -> str:
        return f"{parameters.act} {parameters.user}"

    def do(self, context: Context, parameters: ActParameters) -> Outcome:
        if parameters.fail:
            raise StepError(parameters.fail, type="demo")
        with (Path(parameters.folder) / "acts").open("a", encoding="utf-8") as stream:
            stream.write(self._line(context, parameters) + "\n")
        return Outcome.succeeded(user=parameters.user)

    def verify(self, context: Context, parameters: ActParameters) -> bool | None:
        return self._line(context, parameters) in acts(Path(parameters.folder))


class OpenIssue(Function[ActParameters]):
    """Opens an issue and keeps its id in Offboarding Ticket."""

    name = "demo.open_issue"
    summary = "Open an issue in the tests' system"
    Parameters = ActParameters
    repeatable = True

    def preview(self, parameters: ActParameters) -> str:
        return "open an issue"

    def do(self, context: Context, parameters: ActParameters) -> Outcome:
        with context.installation.database.session() as session:
            field_values.set_value(
                session,
                Form.CONTACT,
                context.target_id,
                "Offboarding Ticket",
                f"DESK-{context.target_id}",
                actor="desk",
            )
        return Outcome.succeeded()


class CommentParameters(Parameters):
    """A comment on an issue."""

    issue: str
    body: str


class Comment(Function[CommentParameters]):
    """Keeps comments in memory."""

    name = "demo.comment"
    summary = "Comment an issue in the tests' system"
    Parameters = CommentParameters
    repeatable = True
    said: ClassVar[list[tuple[str, str]]] = []

    def preview(self, parameters: CommentParameters) -> str:
        return "comment"

    def do(self, context: Context, parameters: CommentParameters) -> Outcome:
        self.said.append((parameters.issue, parameters.body))
        return Outcome.succeeded()


def acts(folder: Path) -> list[str]:
    """What was done, in order."""
    file = folder / "acts"
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []
