"""What the demonstration shows: a small fleet, and two throw-away applications of its own making."""

from __future__ import annotations

from pathlib import Path

#: File name -> text. No computer in them can be reached.
FLEET = {
    "clients.csv": "external_id,name,slug\nC-100,Contoso,contoso\nC-200,Fabrikam,fabrikam\n",
    "locations.csv": (
        "external_id,client,name\nL-101,C-100,Headquarters\nL-102,C-100,Warehouse\nL-201,C-200,Headquarters\n"
    ),
    "computers.csv": (
        "external_id,location,name,platform,os\n"
        "K-1001,L-101,CONTOSO-PC1,windows,Windows 11 Pro\n"
        "K-1002,L-101,CONTOSO-PC2,windows,Windows 11 Pro\n"
        "K-1003,L-102,CONTOSO-SCAN1,windows,Windows 10 IoT\n"
        "K-2001,L-201,FABRIKAM-PC1,windows,Windows 11 Pro\n"
        "K-2002,L-201,FABRIKAM-PC2,macos,macOS 15\n"
        "K-2003,L-201,FABRIKAM-PC3,linux,Debian GNU/Linux 12\n"
        "K-2004,L-201,FABRIKAM-PC4,windows,Windows 11 Pro\n"
    ),
}
#: An application with a real uninstaller, and one whose uninstaller refuses.
WILLING, STUBBORN = "Exeunt Demo Notes", "Exeunt Demo Stubborn"

_UNINSTALL = """\
#!/bin/sh
# The uninstaller of a throw-away application of `exeunt demo`. It knows no folder but its own.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
rm "$here/notes.txt" "$here/uninstall"
rmdir "$here"
echo "Exeunt Demo Notes is removed"
"""
_REFUSE = """\
#!/bin/sh
# The uninstaller of a throw-away application of `exeunt demo` that refuses.
echo "Exeunt Demo Stubborn cannot be removed: a tamper protection passphrase is needed" >&2
exit 5
"""


def install_applications(folder: Path) -> dict[str, Path]:
    """Install both below `folder`; name -> its uninstaller."""
    made = {}
    for name, text, key in ((WILLING, _UNINSTALL, "notes"), (STUBBORN, _REFUSE, "stubborn")):
        home = folder / key
        home.mkdir(parents=True, mode=0o700)
        (home / "notes.txt").write_text(f"This file belongs to {name}.\n", encoding="utf-8")
        made[name] = home / "uninstall"
        made[name].write_text(text, encoding="utf-8")
        made[name].chmod(0o700)
    return made


def edited_child(text: str) -> str:
    """The client's copy of the template with our two applications in it, and without the blocks that are not needed.

    A block that is left in would act on this machine: all but App1 and App2 go.
    """
    for number, name in ((1, WILLING), (2, STUBBORN)):
        lines = [f"  App{number}: {name}" if line.startswith(f"  App{number}: ") else line for line in text.split("\n")]
        text = "\n".join(lines)
    kept, _, _ = text.partition("  # --- DedicatedApp")
    return kept.rstrip() + "\n"
