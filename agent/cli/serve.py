"""`exeunt serve`: the console and the API, and a worker beside them in the same process."""

from __future__ import annotations

import ipaddress
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.cli.caller import Caller, pass_caller
from agent.cli.lazy import Command
from agent.cli.output import tell
from agent.errors import SettingsError, UsageError

if TYPE_CHECKING:
    from agent.installation import Installation


@click.command(
    "serve", cls=Command,
    examples=("exeunt serve", "exeunt serve --host 0.0.0.0 --port 443 --certificate cert.pem --key key.pem"),
)  # fmt: skip
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="Port; 0: any free one.")
@click.option(
    "--certificate", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="TLS certificate, PEM."
)
@click.option("--key", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Its key, PEM.")
@click.option("--behind-proxy", help="Address of the proxy that ends TLS; its X-Forwarded headers are believed.")
@click.option("--no-worker", is_flag=True, help="Only the console and the API; workers run elsewhere.")
@pass_caller
def serve(
    caller: Caller, host: str, port: int, certificate: Path | None, key: Path | None, behind_proxy: str | None,
    no_worker: bool,
) -> None:  # fmt: skip
    """Serve the console and the API, execute runs and tick the monitors, until SIGTERM or SIGINT.

    The first start prints a link that makes the first administrator. Without TLS it listens on this machine only.
    """
    caller.quiet = False
    if (certificate is None) != (key is None):
        raise UsageError("--certificate and --key go together")
    if certificate is None and behind_proxy is None and not _is_loopback(host):
        raise UsageError(
            f"{host} can be reached from elsewhere: give --certificate and --key, or --behind-proxy ADDRESS"
        )
    try:
        import uvicorn

        from agent.web.app import create_app
    except ModuleNotFoundError as error:
        raise SettingsError(f"the console needs {error.name}: install exeunt[web]") from error
    from agent.cli.listening import Listener
    from agent.cli.working import Duties, working

    installation = caller.installation
    with nullcontext() if no_worker else working(installation, Duties()) as worker:
        config = uvicorn.Config(
            create_app(installation, worker.port if worker is not None else None), host=host, port=port,
            ssl_certfile=certificate, ssl_keyfile=key, proxy_headers=behind_proxy is not None,
            forwarded_allow_ips=behind_proxy or "", log_config=None, access_log=False, server_header=False,
            timeout_graceful_shutdown=5,
        )  # fmt: skip
        Listener(config, lambda address: _ready(installation, address)).run()


def _ready(installation: Installation, address: str) -> None:
    """Say where it is, and on the first start how to get in."""
    from agent.access.links import first_link

    address = installation.settings.public_url or address
    tell(f"the console is at {address}; Ctrl-C or SIGTERM stops it")
    path = first_link(installation)
    if path is not None:
        tell(f"nobody can sign in yet: make the first administrator within 30 minutes at {address}{path}")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
