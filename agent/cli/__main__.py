"""`python -m agent.cli`: the same as the command `exeunt`."""

from __future__ import annotations

from agent.cli.main import main

main()
