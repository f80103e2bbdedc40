"""An event as people read it in a channel: Slack's blocks and Teams' adaptive cards, without any markup of the values.

Sources: Slack, "Sending messages using incoming webhooks" and "Reference: blocks"; Microsoft, "Create incoming webhooks" and
"Adaptive Cards: RichTextBlock, TextRun", whose text is shown as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

#: Characters of one line, and lines of one message.
_LINE, _LINES = 300, 12
_WORDS = {
    "run.finished": "Run finished", "run.held": "Held for approval", "offboarding.finished": "Offboarding finished",
    "ticket.created": "Ticket",
}  # fmt: skip


def message(form: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """The message for a channel of that form (`slack`, `teams`). `body`: what a signed message would hold."""
    lines = [line[:_LINE] for line in _lines(body)][:_LINES]
    return _teams(lines) if form == "teams" else _slack(lines)


def _lines(body: Mapping[str, Any]) -> Iterator[str]:
    data, client = body.get("data") or {}, body.get("client") or {}
    target = (data.get("target") or {}).get("name") or data.get("subject")
    title = [
        _WORDS.get(str(body.get("event")), str(body.get("event"))),
        *(p for p in (target, client.get("name")) if p),
    ]
    yield ": ".join((title[0], ", ".join(title[1:]))) if title[1:] else title[0]
    for name in ("script", "monitor", "state", "reference", "started_by", "created_by", "reasons"):
        value = data.get(name)
        if value:
            yield f"{name.replace('_', ' ')}: {_text(value)}"
    for name in ("success", "failure", "reboot_needed", "unknown"):
        if data.get(name):
            yield f"{name.replace('_', ' ')}: {_text(data[name])}"
    runs = data.get("runs")
    if isinstance(runs, list) and runs:
        yield f"runs: {len(runs)}"


def _text(value: Any) -> str:
    return ", ".join(str(v) for v in value) if isinstance(value, list | tuple) else str(value)


def _slack(lines: list[str]) -> dict[str, Any]:
    # The fallback of the text is read as markup, the blocks are not.
    plain = lines[0].replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    blocks = [{"type": "section", "text": {"type": "plain_text", "text": line, "emoji": False}} for line in lines]
    return {"text": plain, "blocks": blocks}


def _teams(lines: list[str]) -> dict[str, Any]:
    body = [
        {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": line, "weight": "Bolder" if n == 0 else "Default"}]}
        for n, line in enumerate(lines)
    ]  # fmt: skip
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4", "body": body,
    }  # fmt: skip
    content_type = "application/vnd.microsoft.card.adaptive"
    return {"type": "message", "attachments": [{"contentType": content_type, "contentUrl": None, "content": card}]}
