"""The examples of docs/api.md work as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

from api_help import token_of
from peers import require
from web_help import Console

from agent.inventory import places
from agent.model.contacts import ContactOffboarding
from agent.model.places import Contact
from agent.secrets import create_key
from agent.services import webhooks

MANUAL = (Path(__file__).parent.parent.parent / "docs" / "api.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", MANUAL, re.S)


def test_the_examples_work(console: Console, tmp_path: Path) -> None:
    for program, package in (("curl", "curl"), ("jq", "jq"), ("openssl", "openssl")):
        require(program, package)
    create_key(console.installation.settings)
    contoso = console.places.contoso
    with console.installation.database.session() as session:
        for name in ("john", "mary"):
            places.add_contact(session, client_id=contoso, name=name, actor="t", email=f"{name}@contoso.example")
    source, secret = webhooks.add_source(console.installation, name="hr", kind="hr", client_id=contoso, actor="t")
    environment = {
        "PATH": os.environ["PATH"], "EXEUNT": console.address, "TOKEN": token_of(console.installation, "colleague"),
        "SECRET": secret, "HOOK": f"/api/v1/hooks/{source.id}",
    }  # fmt: skip
    script = "set -euo pipefail\n" + "\n".join(blocks("sh"))
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    assert (tmp_path / "token-header").stat().st_mode & 0o077 == 0
    with console.installation.database.reading() as session:
        john = session.get_one(Contact, 1)
        assert john.last_working_day == "2035-01-30" and john.termination_date == "2035-01-31"
        assert len(list(session.exec(ContactOffboarding.__table__.select()))) == 1  # type: ignore[attr-defined]
    assert "<html" in (tmp_path / "run.html").read_text()


def test_the_signature_of_the_manual_is_ours() -> None:
    scope: dict[str, Any] = {}
    exec(blocks("python")[0], scope)
    now, body = int(time.time()), b'{"id": "1"}'
    header = webhooks.sign("whsec_x", now, body)
    assert scope["is_genuine"]("whsec_x", header, body)
    assert not scope["is_genuine"]("whsec_x", header, body + b" ")
    assert not scope["is_genuine"]("whsec_y", header, body)
    assert not scope["is_genuine"]("whsec_x", webhooks.sign("whsec_x", now - 301, body), body)
