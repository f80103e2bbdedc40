"""What a function of Microsoft 365 sees of a run on the person of the test tenants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from contact_context import ContactContext


@dataclass
class UserContext(ContactContext):
    """Every step is about Alex, unless it names somebody else."""

    root_script: str = "Microsoft 365 Offboarding"
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"user": "alex@contoso.test"})
