"""Secrets at rest."""

from __future__ import annotations

from agent.settings import Settings


class SecretBox:
    """Encrypts and decrypts."""

    def encrypt(self, text: str) -> str:
        """Text -> token that begins with `enc:`."""
        raise NotImplementedError

    def decrypt(self, token: str) -> str:
        """Token -> text."""
        raise NotImplementedError


def load_secret_box(settings: Settings) -> SecretBox:
    """The box of an installation."""
    return SecretBox()
