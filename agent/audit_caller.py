"""The system's account that calls this process under another name, which the audit trail keeps beside that name."""

from __future__ import annotations

#: Who calls this process under another name: (the name, the system's account); see `called_as`.
_called_as: tuple[str, str] | None = None


def called_as(name: str, account: str | None) -> None:
    """From now on entries by `name` also tell the system's account that gave this name; None: they are one, or it is over.

    A name given at the command line is taken on trust: who can write the database could write anything. So both are kept.
    """
    global _called_as
    _called_as = (name, account) if account is not None else None


def account_beside(actor: str) -> dict[str, str]:
    """What an entry by that name holds beside its own details."""
    return {"os_user": _called_as[1]} if _called_as is not None and _called_as[0] == actor else {}
