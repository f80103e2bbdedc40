"""What watches this server: it lives, it is ready, and its figures, which name no client."""

from __future__ import annotations

import re
from datetime import timedelta

from api_help import token_of
from sqlalchemy import event
from web_help import Console, console_at, serving

from agent.installation import Installation
from agent.model.base import utcnow
from agent.model.monitors import MonitorStatus
from agent.model.runs import ScriptRevision, ScriptRun
from agent.running.liveness import Liveness
from agent.services import mail
from agent.web.health import Figures


def test_it_lives_and_says_what_it_lacks(console: Console) -> None:
    get = console.nobody.client.get
    assert get("/healthz").json() == {"status": "ok"}
    lacking = get("/readyz")
    assert lacking.status_code == 503 and lacking.json()["faults"] == ["worker: none is alive; start `exeunt worker`"]
    worker = Liveness(console.installation)
    worker.hold("w1")
    try:
        assert get("/readyz").json() == {"status": "ready", "faults": []}
    finally:
        worker.release()
    assert get("/readyz").status_code == 503
    with console.installation.database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0001_records'")
    assert "database: not up to date" in get("/readyz").json()["faults"][0]


def figures(text: str) -> dict[str, float]:
    return {m[1]: float(m[2]) for m in re.finditer(r"^(\w+(?:{.*})?) (\S+)$", text, re.M)}


def test_its_figures_are_for_whoever_may_see_all(console: Console) -> None:
    get, installation = console.nobody.client.get, console.installation
    with installation.database.session() as session:
        session.add(ScriptRevision(digest="0" * 64, name="x", content={}))
        session.add(
            MonitorStatus(monitor="Offboarding", status="ERROR", last_scan=utcnow() - timedelta(minutes=2), rows=3)
        )
        session.flush()
        session.add(
            ScriptRun(
                script="x", role="child", revision="0" * 64, target_kind="computer", target_id=1, target_name="secret-pc",
                state="queued", client_id=console.places.contoso, started_by="ann",
                queued_at=utcnow() - timedelta(seconds=100),
            )
        )  # fmt: skip
        mail.queue_mail(session, key="k", client_id=None, recipient="a@b.example", subject="s", body="b")
    get(f"/api/v1/clients/{console.places.contoso}")
    get("/no/such/path/contoso")
    assert get("/metrics").status_code == 401
    for name in ("colleague", "viewer", "stranger"):
        header = {"authorization": f"Bearer {token_of(installation, name)}"}
        assert get("/metrics", headers=header).status_code == 403
    answer = get("/metrics", headers={"authorization": f"Bearer {token_of(installation, 'owner', scopes=['see'])}"})
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain")
    found = figures(answer.text)
    assert found['exeunt_runs{state="queued"}'] == 1 and found['exeunt_runs{state="failed"}'] == 0
    assert 95 < found["exeunt_queue_age_seconds"] < 700 and found["exeunt_mail_waiting"] == 1
    assert 115 < found['exeunt_monitor_age_seconds{monitor="Offboarding"}'] < 700
    assert found['exeunt_monitor_rows{monitor="Offboarding"}'] == 3
    assert found['exeunt_monitor_error{monitor="Offboarding"}'] == 1
    assert found['exeunt_http_seconds_count{method="GET",route="/api/v1/clients/{client_id}",status="401"}'] == 1
    assert found['exeunt_http_seconds_count{method="GET",route="(none)",status="404"}'] == 1
    assert not re.search("contoso|fabrikam|secret-pc", answer.text, re.I)


def test_a_setting_opens_them_to_this_machine(installation: Installation, two_clients: object) -> None:
    found = Installation(installation.settings.model_copy(update={"metrics_open": True}))
    with serving(found) as address, console_at(found, two_clients, address) as console:  # type: ignore[arg-type]
        assert console.nobody.client.get("/metrics").status_code == 200
    found.database.close()


def test_a_scrape_does_not_read_every_run(installation: Installation, two_clients: object) -> None:
    """A run's row is large, and there may be a million: what counts them reads an index and nothing else."""
    asked: list[tuple[str, object]] = []

    def remember(connection: object, cursor: object, statement: str, parameters: object, *more: object) -> None:
        if "script_run" in statement:
            asked.append((statement, parameters))

    event.listen(installation.database.engine, "before_cursor_execute", remember)
    assert list(Figures(installation).collect())
    event.remove(installation.database.engine, "before_cursor_execute", remember)
    assert len(asked) == 2
    with installation.database.engine.connect() as connection:
        plans = [str(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {s}", p).all()) for s, p in asked]
    assert "COVERING INDEX runs_by_parent_and_state" in plans[0] and "USING INDEX" in plans[1]
    assert "TEMP B-TREE" not in plans[0] and "SCAN" not in " ".join(plans)
