"""Fixtures that the tests of all transports share."""

from __future__ import annotations

from pathlib import Path

import pytest
from transport_help import Collecting


@pytest.fixture
def output(tmp_path: Path) -> Collecting:
    """Runs bodies and collects what they write."""
    return Collecting(tmp_path / "output")
