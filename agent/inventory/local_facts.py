"""Facts of the machine that Exeunt runs on, to register it as a computer that is reached by the transport `local`."""

from __future__ import annotations

import hashlib
import platform
import re
import socket
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil
from sqlmodel import Session, select

from agent.errors import Conflict, SettingsError
from agent.inventory import places
from agent.model.base import utcnow
from agent.model.places import Computer

_PLATFORMS = {"linux": "linux", "darwin": "macos", "win32": "windows"}


@dataclass(frozen=True)
class LocalFacts:
    """What is known about this machine. `is_server` is a best effort: nothing marks a Linux server for certain."""

    external_id: str
    name: str
    os: str
    platform: str
    domain: str
    user_name: str
    booted_at: datetime
    is_server: bool


def local_facts(suffix: str = "") -> LocalFacts:
    """Facts of this machine. `suffix` goes into the external id, so that one machine can be registered more than once.

    Raises SettingsError on a platform that Exeunt does not know.
    """
    if sys.platform not in _PLATFORMS:
        raise SettingsError(f"the platform {sys.platform} is not known: Exeunt runs on Linux, macOS and Windows")
    # Not getfqdn: that asks name servers, and waits for them.
    name, _, domain = socket.gethostname().partition(".")
    return LocalFacts(
        external_id=stable_id(suffix),
        name=name,
        os=_os_name(),
        platform=_PLATFORMS[sys.platform],
        domain=domain if domain not in ("localdomain", "local") else "",
        user_name=_console_user(),
        booted_at=datetime.fromtimestamp(psutil.boot_time(), UTC),
        is_server=_is_server(),
    )


def register(session: Session, *, location_id: int, actor: str, suffix: str = "") -> Computer:
    """Store this machine as a computer at a location, or bring what is stored up to date; it counts as in contact now.

    Raises Conflict when it is stored at another location.
    """
    facts = asdict(local_facts(suffix)) | {"transport": "local", "last_contact": utcnow()}
    computer = session.exec(select(Computer).where(Computer.external_id == facts["external_id"])).first()
    if computer is None:
        return places.add_computer(session, location_id=location_id, actor=actor, **facts)
    if computer.location_id != location_id:
        raise Conflict(f"this machine is computer {computer.computer_id} at another location, {computer.location_id}")
    return places.change(session, computer, actor=actor, **facts)


def stable_id(suffix: str = "") -> str:
    """An id that stays the same as long as the system is not installed anew. The machine's own id is hashed, not shown."""
    return hashlib.sha256(f"exeunt\n{_machine_id()}\n{suffix}".encode()).hexdigest()[:32]


def _machine_id() -> str:
    if sys.platform == "win32":
        import winreg

        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"SOFTWARE\Microsoft\Cryptography") as opened:
            return str(winreg.QueryValueEx(opened, "MachineGuid")[0])
    for file in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        path = Path(file)
        if path.is_file() and (text := path.read_text(encoding="ascii", errors="replace").strip()):
            return text
    # macOS, and containers without a machine id: the hardware address and the name.
    addresses = sorted(
        a.address
        for interface in psutil.net_if_addrs().values()
        for a in interface
        if a.family == psutil.AF_LINK and a.address.strip("0:") != ""
    )
    return f"{addresses[0] if addresses else ''} {socket.gethostname()}"


def _os_name() -> str:
    if sys.platform == "linux":
        try:
            return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
        except OSError:
            return f"Linux {platform.release()}"
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0]}"
    edition = platform.win32_edition() or ""
    return f"Windows {platform.release()} {edition}".strip()


def _console_user() -> str:
    users = psutil.users()
    return users[0].name if users else ""


def _is_server() -> bool:
    if sys.platform == "win32":
        return "server" in (platform.win32_edition() or platform.release()).lower()
    if sys.platform == "darwin":
        return False
    chassis = Path("/sys/class/dmi/id/chassis_type")
    # SMBIOS: 17 main server chassis, 23 rack mount, 28 blade, 29 blade enclosure.
    if chassis.is_file():
        text = chassis.read_text(encoding="ascii", errors="replace").strip()
        return bool(re.fullmatch("17|23|28|29", text))
    return False
