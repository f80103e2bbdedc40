"""The command `exeunt`: global options, the groups, and what becomes of errors."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from agent.cli import foreign
from agent.cli.caller import Caller
from agent.cli.lazy import LazyGroup
from agent.cli.output import clean_lines
from agent.errors import ExeuntError

EPILOG = """\b
Exit codes:
  0  done
  1  failed: the message on standard error says what and what to do
  2  usage: a wrong option, name, file or setting; nothing was changed
  3  held or refused by a guardrail; nothing was started
  4  nothing matched

\b
First steps:
  exeunt init
  exeunt inventory import clients.csv
  exeunt edf set "Offboard Computer" 1 --computer "Contoso/HQ/PC1"
  exeunt monitor run Offboarding --dry-run
"""

#: Command -> (module, attribute, what it is for). Nothing is imported before it is called.
PLACES = {
    "init": ("agent.cli.init", "init", "Create a workspace: database, key, folders, settings."),
    "doctor": ("agent.cli.doctor", "doctor", "Find what is missing or wrong, and how to mend it."),
    "demo": ("agent.cli.demo", "demo", "Show a whole offboarding on this machine, with throw-away applications."),
    "inventory": ("agent.cli.inventory", "inventory", "Clients, locations, computers and contacts."),
    "edf": ("agent.cli.edf", "edf", "Extra data fields: flags and choices of a place."),
    "property": ("agent.cli.properties", "properties", "System properties: server-wide settings."),
    "monitor": ("agent.cli.monitor", "monitor", "Internal monitors: see them, run them now."),
    "alert": ("agent.cli.alert", "alert", "What monitors found."),
    "template": ("agent.cli.template", "template", "Alert templates: what answers a monitor."),
    "script": ("agent.cli.scripts", "script", "Scripts: check, duplicate, use, test and run them."),
    "package": ("agent.cli.packages", "package", "Packages: one per system, in the client's own order."),
    "offboard": ("agent.cli.offboard", "offboard", "Offboardings of people: plan, start, follow."),
    "task": ("agent.cli.task", "task", "Tasks for people: keys, badges, exit interviews."),
    "equipment": ("agent.cli.equipment", "equipment", "What people have and must give back."),
    "run": ("agent.cli.run", "run", "Script runs: follow, approve, cancel, try again."),
    "ticket": ("agent.cli.ticket", "ticket", "Tickets with their comments."),
    "notification": ("agent.cli.notification", "notification", "Mail that was sent, waits or was kept as failed."),
    "credential": ("agent.cli.credential", "credential", "How to reach machines and services."),
    "handover": ("agent.cli.handover", "handover", "Secrets that were handed over by a link that works once."),
    "user": ("agent.cli.user", "user", "People who may sign in to the console, and their roles."),
    "token": ("agent.cli.token", "token", "Tokens with which programs call the API."),
    "webhook": ("agent.cli.webhook", "webhook", "Webhooks: who is told of what, whose messages are taken."),
    "audit": ("agent.cli.audit", "audit", "The audit trail: read, verify, export."),
    "content": ("agent.cli.content", "content", "Check all scripts, monitors and alert templates."),
    "report": ("agent.cli.report", "report", "Evidence per client, and what was left over."),
    "backup": ("agent.cli.backup", "backup", "Backups of leavers' data: list, verify, restore."),
    "worker": ("agent.cli.worker", "worker", "Execute runs and tick the monitors until it is told to stop."),
    "serve": ("agent.cli.serve", "serve", "The console and the API, with a worker beside them."),
    "completion": ("agent.cli.completion", "completion", "Shell completion for bash, zsh and fish."),
}


class Root(LazyGroup):
    """The command `exeunt`. Every error becomes one message on standard error and an exit code."""

    def main(self, args: Any = None, prog_name: str | None = None, *_: Any, **extra: Any) -> NoReturn:
        """Run the command line and end the process."""
        extra.pop("standalone_mode", None)
        caller = extra.setdefault("obj", Caller())
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                # A terminal that lacks a character shows its escape; it is no reason to fail.
                stream.reconfigure(errors="backslashreplace")
        try:
            foreign.check()
            code = super().main(args, prog_name or "exeunt", standalone_mode=False, **extra)
            sys.exit(code if isinstance(code, int) else 0)
        except click.ClickException as error:
            _usage_error(error)
        except click.Abort:
            _fail("stopped: nothing more was done", 1)
        except ExeuntError as error:
            _fail(str(error), error.exit_code)
        except KeyboardInterrupt:
            _fail("interrupted", 130)
        except BrokenPipeError:
            # Whoever read our output has gone; Python would complain once more when it flushes.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        except Exception as error:  # noqa: BLE001 - the last place: it is kept in a file and told, or raised again
            _unexpected(error, caller)
        finally:
            caller.close()


@click.group(
    "exeunt", cls=Root, places=PLACES, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)  # fmt: skip
@click.option("-w", "--workspace", type=click.Path(path_type=Path), envvar="EXEUNT_WORKSPACE",
              help="Folder of the installation. [EXEUNT_WORKSPACE, else ./exeunt-workspace]")  # fmt: skip
@click.option(
    "--user",
    envvar="EXEUNT_USER",
    help="Who acts, as the audit trail shows it, with the account that calls. [EXEUNT_USER, else that account]",
)
@click.option("--log-level", type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False),
              help="How much is logged on standard error. [EXEUNT_LOG_LEVEL, else INFO]")  # fmt: skip
@click.option("--version", is_flag=True, expose_value=False, is_eager=True,
              callback=lambda ctx, _, value: _version(ctx, value), help="Show the version.")  # fmt: skip
@click.pass_context
def main(ctx: click.Context, workspace: Path | None, user: str | None, log_level: str | None) -> None:
    """Exeunt offboards computers: a field is ticked, a monitor finds it, scripts remove what must go, and prove it."""
    caller = ctx.ensure_object(Caller)
    caller.workspace, caller.user = workspace, user
    caller.log_level = log_level.upper() if log_level else None


def _version(ctx: click.Context, asked: bool) -> None:
    if asked:
        from importlib.metadata import PackageNotFoundError, version

        try:
            click.echo(f"exeunt {version('exeunt')}")
        except PackageNotFoundError:
            click.echo("exeunt, from a checkout that is not installed")
        ctx.exit()


def _usage_error(error: click.ClickException) -> NoReturn:
    context = getattr(error, "ctx", None)
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        sys.exit(error.exit_code)
    hint = f"\nTry: {context.command_path} --help" if context is not None else ""
    _fail(error.format_message() + hint, error.exit_code)


def _fail(message: str, code: int) -> NoReturn:
    click.echo("error: " + clean_lines(message), err=True)
    sys.exit(code)


def _unexpected(error: Exception, caller: Caller) -> NoReturn:
    """An error of ours: keep the traceback in a file of the workspace, and say where it is."""
    if caller.log_level == "DEBUG":
        raise error
    from agent.cli.crashes import keep

    file = keep(error, caller)
    where = f"; the details are in {file}" if file else "; run it again with --log-level DEBUG to see the details"
    _fail(f"this should not have happened ({type(error).__name__}){where}", 1)
