"""`make demo-user` shows what it promises: a person offboarded by the real command line, and the exit report."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path


def test_a_person_leaves_and_the_exit_report_is_there(tmp_path: Path) -> None:
    demo = Path(__file__).parent / "demo_user.py"
    done = subprocess.run(
        [sys.executable, str(demo), str(tmp_path / "demo")], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "In the tenant: sign-in disabled, licences 0, display name 'Former - Alex Baker'" in done.stdout
    files = [Path(f) for f in re.findall(r"^(/\S+)  sha256 [0-9a-f]{64}$", done.stdout, re.MULTILINE)]
    assert {f.suffix for f in files} == {".json", ".html"} and all(f.is_file() for f in files)
    report = json.loads(next(f for f in files if f.suffix == ".json").read_text(encoding="utf-8"))
    assert report["success"] is True
    assert report["data_preservation"]["email_backup"]["backup_format"] == "mbox"
