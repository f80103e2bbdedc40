"""Files that wait for their confirmation: only their owner's, used once, and not for long."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import pytest

from agent.errors import NotFound
from agent.installation import Installation
from agent.web import uploads
from agent.web.app import create_app


def grow_old(installation: Installation, seconds: float) -> None:
    for file in (installation.settings.workspace / "uploads").iterdir():
        os.utime(file, (time.time() - seconds,) * 2)


def test_a_file_is_its_owners_and_is_used_once(installation: Installation) -> None:
    settings = installation.settings
    token = uploads.keep(settings, "ann", b"PK")
    assert uploads.kept(settings, "ann", token) == b"PK"
    for owner, other in (("bob", token), ("ann", "0" * 32), ("ann", "../../secrets.key"), ("../ann", token)):
        with pytest.raises(NotFound):
            uploads.kept(settings, owner, other)
    uploads.forget(settings, "ann", token)
    with pytest.raises(NotFound, match="upload the file again"):
        uploads.kept(settings, "ann", token)


def test_what_nobody_confirms_goes_although_nobody_uploads_another(installation: Installation) -> None:
    settings = installation.settings
    token = uploads.keep(settings, "ann", b"PK")
    grow_old(installation, uploads.KEPT / 2)
    in_a_thread(serve, installation, False)
    assert uploads.kept(settings, "ann", token) == b"PK"
    grow_old(installation, uploads.KEPT + 1)
    in_a_thread(serve, installation, True)
    with pytest.raises(NotFound):
        uploads.kept(settings, "ann", token)


def in_a_thread(function: Any, *arguments: Any) -> None:
    """Run it in a loop of its own: that of the main thread is Playwright's once a test has used a browser."""
    with ThreadPoolExecutor(1) as threads:
        threads.submit(anyio.run, function, *arguments).result()


async def serve(installation: Installation, until_empty: bool) -> None:
    """Run the application, until there is no upload any more if that is asked for."""
    nothing: Any = object()  # no run is released here
    app = create_app(installation, nothing)
    with anyio.fail_after(60):
        async with app.router.lifespan_context(app):
            while until_empty and list((installation.settings.workspace / "uploads").iterdir()):
                await anyio.sleep(0.01)
