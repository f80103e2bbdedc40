"""A whole Microsoft 365 offboarding at the test tenant of the tests: how many HTTP requests it makes, and how it holds out.

The smallest possible number is counted in two ways from the calls that were made. *By step*: a step is a unit that is stored
before the next begins, so it is given the fewest requests for its own calls: questions, changes and questions again, and what
holds something of an answer (`_DEPENDENT`) in a later request; Graph takes 20, Exchange 10 and SharePoint one call per request.
*At all*: as if every step could share its requests with all others, which no engine could that stores what it did step by
step; the figure tells what that costs.
"""

from __future__ import annotations

import random
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any

from measuring import Target, heading, line, print_targets

TESTS = Path(__file__).parent.parent / "tests"
sys.path[:0] = [str(TESTS / "microsoft"), str(TESTS)]

#: Every option of the shipped scripts, in their order.
STEPS: list[tuple[str, dict[str, Any]]] = [
    ("snapshot", {}), ("disable_sign_in", {}), ("reset_password", {}), ("revoke_sessions", {}), ("remove_mfa_methods", {}),
    ("wipe_devices", {}), ("account_only_wipe", {}), ("remove_directory_roles", {}),
    ("transfer_teams", {"new_owner": "manager"}), ("transfer_sites", {"new_owner": "manager"}),
    ("remove_from_groups", {"new_owner": "manager"}), ("remove_sharepoint_direct_grants", {}),
    ("remove_mailbox_permissions_elsewhere", {}), ("remove_calendar_permissions_elsewhere", {}), ("remove_inbox_rules", {}),
    ("cancel_meetings", {}), ("set_out_of_office", {"message": "Gone. Write to %manager_email%."}), ("convert_to_shared", {}),
    ("grant_full_access", {"delegates": "manager"}), ("grant_send_as", {"delegates": "manager"}),
    ("grant_send_on_behalf", {"delegates": "manager"}), ("set_forwarding", {"forward_to": "manager"}),
    ("grant_onedrive_access", {"delegates": "manager"}), ("disable_onedrive_sharing", {}), ("unassign_teams_number", {}),
    ("remove_licenses", {}), ("hide_from_address_lists", {}), ("remove_mobile_devices", {}), ("remove_signature", {}),
    ("reassign_direct_reports", {"new_manager": "manager"}), ("clear_manager", {}), ("set_display_name_prefix", {}),
    ("clear_immutable_id", {}),
]  # fmt: skip
#: Attempts at a step, as the shipped scripts give it by `retries`.
ATTEMPTS = 3
SHARE = 0.2
#: Calls in one request. MFA methods are removed one by one: a batch of them fails in silence.
_PER_REQUEST = {"graph": 20, "exchange": 10, "sharepoint": 1, "methods": 1}
#: Step -> requests more that it needs because a call holds something of an answer to one of the same kind.
_DEPENDENT = {
    "snapshot": 1,  # the account's object id
    "transfer_teams": 3,  # teams, their channels, those channels' members; a team's new member before a channel's owner
    "transfer_sites": 1,  # groups before their sites
    "remove_from_groups": 1,  # groups before their owners
    "remove_mailbox_permissions_elsewhere": 2,  # mailboxes before rights on them; the name that a filter takes
    "grant_send_as": 1, "grant_send_on_behalf": 1, "set_forwarding": 1,  # whom Exchange means by a name
}  # fmt: skip


def run(*, quick: bool) -> list[Target]:
    """Prints the figures; returns the targets."""
    import conftest
    import tenant_server
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    from agent.services.rest import waiting

    # What is measured is the number of requests: nothing is waited for, and the contract is the tests' matter.
    waits: list[float] = []
    waiting.pause, tenant_server.violations = waits.append, lambda *call: []  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "server.pem"
        file.write_text(conftest.self_signed(ec.generate_private_key(ec.SECP256R1())), encoding="ascii")
        certificate = conftest.self_signed(rsa.generate_private_key(65537, 2048))
        with tenant_server.running(tenant_server.Server(), file) as server:
            targets = _requests(server, certificate)
            targets += _throttled(server, certificate, 10 if quick else 100, waits)
    print_targets(targets)
    return targets


def _requests(server: Any, certificate: str) -> list[Target]:
    tenant, context = _fresh(server, certificate)
    sent, by_step, calls = 0, 0, []
    for name, values in STEPS:
        server.requests.clear()
        server.calls.clear()
        _must(context, name, values)
        made = [_kind(call) for _, call in server.calls]
        sent += len(server.requests)
        by_step += min(len(server.requests), _least(made) + _DEPENDENT.get(name, 0))
        calls += made
    heading(f"one person, {len(STEPS)} steps, every option")
    line("single calls to Graph, Exchange and SharePoint", f"{len(calls)}")
    line("HTTP requests", f"{sent}")
    line("  fewest by step", f"{by_step}")
    line("  fewest at all, if no step were stored by itself", f"{_least(sorted(calls))}")
    assert not tenant.named("alex").enabled and not tenant.named("alex").licences, "the person was offboarded"
    return [Target("HTTP requests of an offboarding to the fewest by step", sent / by_step, 1.1)]


def _throttled(server: Any, certificate: str, number: int, waits: list[float]) -> list[Target]:
    from tenant_server import Fault

    tenant, _ = _fresh(server, certificate)
    people = [_leaver(tenant, n) for n in range(number)]
    luck, lock, struck = random.Random(20), threading.Lock(), [0, 0]

    def strike(call: str) -> Any:
        if call.startswith("HTTP"):
            return None
        with lock:
            struck[1] += 1
            if luck.random() >= SHARE:
                return None
            struck[0] += 1
            return Fault("", luck.choice((429, 503)), retry_after=1)

    def offboard(upn: str) -> tuple[int, int, list[str]]:
        context = _context(server, certificate, tenant)
        again, failed = 0, []
        for name, values in STEPS:
            for attempt in range(ATTEMPTS):
                outcome = context.run(f"m365.{name}", **{"user": upn, **values})
                if outcome.state == "succeeded":
                    again += attempt
                    break
            else:
                failed.append(f"{upn} {name}: {outcome.error}")
            _remember(context, name, outcome)
        return len(STEPS) - len(failed), again, failed

    server.__dict__["strike"] = strike
    waits.clear()
    server.requests.clear()
    try:
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(offboard, people))
    finally:
        del server.__dict__["strike"]
    errors = [error for _, _, failed in results for error in failed]
    heading(f"{number} people at one client, {SHARE:.0%} of all calls answer 429 or 503")
    line("calls, of which refused", f"{struck[1]}, {struck[0]}")
    line("HTTP requests, of which per person", f"{len(server.requests)}, {len(server.requests) / number:.0f}")
    line("waits that Retry-After asked for, all honoured", f"{sum(w >= 1 for w in waits)}")
    line("steps that succeeded", f"{sum(done for done, _, _ in results)} of {number * len(STEPS)}")
    line("  of which at a later attempt of the step", f"{sum(again for _, again, _ in results)}")
    for error in errors[:5]:
        line("error", error)
    left = [upn for upn in people if not _is_offboarded(tenant, upn)]
    return [
        Target("people with an error", len({e.split()[0] for e in errors}), 0, "people"),
        Target("people who are not offboarded when the tenant is asked", len(left), 0, "people"),
    ]


def _least(made: list[tuple[str, bool]]) -> int:
    """The fewest requests for calls (service, whether it changes something) in their order: each run of one kind together."""
    return sum(-(-len(list(run)) // _PER_REQUEST[kind[0]]) for kind, run in groupby(made))


def _kind(call: str) -> tuple[str, bool]:
    method, _, path = call.partition(" ")
    if path.startswith(("/sites/", "/personal/", "/_vti_bin")) and not path.startswith("/sites/getAllSites"):
        return "sharepoint", method != "GET" and not path.endswith("Query")
    if "/authentication/" in path and method == "DELETE":
        return "methods", True
    if path:
        return "graph", method != "GET" and not path.endswith("getMemberGroups")
    return "exchange", not method.startswith("Get-")


def _fresh(server: Any, certificate: str) -> tuple[Any, Any]:
    from tenant_state import make_tenant

    server.reset()
    tenant = make_tenant("contoso")
    tenant.sharepoint, tenant.graph = server.urls["sharepoint"], server.urls["graph"]
    server.tenants[:] = [tenant]
    return tenant, _context(server, certificate, tenant)


def _context(server: Any, certificate: str, tenant: Any) -> Any:
    from m365_context import UserContext

    from agent.installation import Installation
    from agent.settings import Settings

    settings = Settings(workspace=Path(tempfile.gettempdir()) / "not-there")
    secret = {"certificate": certificate}
    return UserContext(Installation(settings), {"microsoft365": (server.settings(tenant, call_seconds=900), secret)})


def _must(context: Any, name: str, values: dict[str, Any]) -> None:
    outcome = context.run(f"m365.{name}", **values)
    assert outcome.state == "succeeded", (name, outcome)
    _remember(context, name, outcome)


def _remember(context: Any, name: str, outcome: Any) -> None:
    """What later steps of a run see of a finished one."""
    from agent.functions.base import FinishedStep

    context.finished.append(FinishedStep(name, "x", f"m365.{name}", outcome.state, name, outcome.result, None, True))


def _leaver(tenant: Any, number: int) -> str:
    """Somebody like `alex`, in all that alex is in."""
    import copy

    from tenant_state import Site, made_id

    alex = tenant.named("alex")
    user = copy.deepcopy(alex)
    short = f"leaver{number}"
    user.id, user.upn, user.mail = made_id("contoso", short), f"{short}@contoso.test", f"{short}@contoso.test"
    user.drive, user.name = f"drive-{user.id}", f"Leaver {number}"
    user.devices = {made_id(user.id, key): list(device) for key, device in alex.devices.items()}
    user.mailbox.phones = {f"{short}\\phone": "Ok"}
    tenant.users[user.id] = user
    for group in tenant.groups.values():
        for people in (
            group.members,
            group.owners,
            *(p for c in group.channels.values() for p in (c.members, c.owners)),
        ):
            people |= {user.id} if alex.id in people else set()
    tenant.sites[f"/personal/{user.id}"] = Site(users={user.upn: 5}, admins={5})
    tenant.sites["/sites/sales"].users[user.upn] = 1000 + number
    tenant.roles[f"assignment-{user.id}"] = (user.id, "User Administrator")
    tenant.numbers[f"+1556{number:04}"] = user.id
    tenant.named("info").mailbox.full_access[user.id] = True
    return str(user.upn)


def _is_offboarded(tenant: Any, upn: str) -> bool:
    user = tenant.user(upn)
    groups = {g.name for g in tenant.groups.values() if user.id in g.members}
    return bool(
        not user.enabled and not user.licences and user.password != "old" and user.mailbox.kind == "SharedMailbox"
        and user.name.startswith("Former - Leaver") and groups <= {"Everybody", "From AD"} and user.manager is None
        and user.id not in tenant.named("info").mailbox.full_access
        and not any(who == user.id for who, _ in tenant.roles.values())
    )  # fmt: skip
