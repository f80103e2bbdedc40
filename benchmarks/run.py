"""`make bench`: figures of speed and size, each beside what one would otherwise use, measured in one run.

    .venv/bin/python benchmarks/run.py [NAME ...] [--quick] [--with-ansible]

Nothing here is a test and no figure fails anything: machines differ, and so does their load. Each figure is a median with
its extremes; ratios are medians over pairs that were measured beside each other. Read "MISSED" as a question.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import inventory_pages
import local_runs
import microsoft365
import monitor_scan
import small_figures
import ssh_fan_out
from measuring import Target, heading, line, load, machine_facts, print_targets

BENCHMARKS: dict[str, Callable[..., list[Target]]] = {
    "start": small_figures.start,
    "idle": small_figures.idle,
    "output": small_figures.output,
    "run-now": small_figures.run_now,
    "monitor": monitor_scan.run,
    "inventory": inventory_pages.run,
    "ssh": ssh_fan_out.run,
    "local": local_runs.run,
    "microsoft365": microsoft365.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these: {', '.join(BENCHMARKS)}")
    parser.add_argument("--quick", action="store_true", help="small numbers: tells that it works, not how fast")
    parser.add_argument("--with-ansible", action="store_true", help="install ansible-core aside and compare with it")
    given = parser.parse_args()
    unknown = sorted(set(given.names) - set(BENCHMARKS))
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}")
    machine_facts()
    targets: list[Target] = []
    for name in given.names or BENCHMARKS:
        options: dict[str, Any] = {"with_ansible": given.with_ansible} if name == "ssh" else {}
        targets += BENCHMARKS[name](quick=given.quick, **options)
    heading("all targets" + (" (quick: the figures mean nothing)" if given.quick else ""))
    print_targets(targets)
    line("load average after", load())


if __name__ == "__main__":
    main()
