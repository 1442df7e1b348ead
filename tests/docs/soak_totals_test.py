#!/usr/bin/env python3
"""Tests that scripts/simulate.py --totals appends rows to docs/soak-totals.md; connectctl is a stub."""
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SIMULATE = ROOT / "scripts" / "simulate.py"
sys.path.insert(0, str(SIMULATE.parent))
import simulate  # noqa: E402

STUB = """#!/bin/sh
if [ "$1" = version ]; then echo 'connectctl 9.8.7'; exit 0; fi
cat "$(dirname "$0")/report.json"
exit "$(cat "$(dirname "$0")/exit")"
"""
ROW = re.compile(r"\| 20\d\d-\d\d-\d\d \| 9\.8\.7 \| 1,234 \| 5,678,901 \| 2\.5 h \| (\d) \| (\w+) \|")


class SoakTotals(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.build = pathlib.Path(directory.name)
        (self.build / "bin").mkdir()
        stub = self.build / "bin" / "connectctl"
        stub.write_text(STUB, encoding="utf-8")
        stub.chmod(0o755)
        self.page = self.build / "page.md"
        self.page.write_text((ROOT / "docs" / "soak-totals.md").read_text(encoding="utf-8"), encoding="utf-8")
        self.before = self.page.read_text(encoding="utf-8")

    def run_soak(self, violations=0):
        report = dict.fromkeys(simulate.SUMMED, 0)
        report |= {"seeds": 1234, "events": 5678901, "simulated_seconds": 9000.0, "violations": violations,
                   "slowest_recovery_ms": 1, "faults": {}}
        (self.build / "bin" / "report.json").write_text(json.dumps(report), encoding="utf-8")
        (self.build / "bin" / "exit").write_text("1" if violations else "0", encoding="utf-8")
        return subprocess.run([sys.executable, SIMULATE, "--build", self.build, "--minutes", "1", "--processes", "1",
                               "--seed", "1", "--faults", "none", "--totals", self.page],
                              capture_output=True, text=True, check=False)

    def test_a_failed_soak_appends_its_violations(self):
        result = self.run_soak(violations=1)
        self.assertEqual(result.returncode, 1, result.stderr)
        text = self.page.read_text(encoding="utf-8")
        self.assertTrue(text.startswith(self.before))
        added = text[len(self.before):].splitlines()
        self.assertEqual([ROW.fullmatch(line).groups() for line in added], [("1", "kv")])

    def test_append_writes_one_row_per_plugin(self):
        totals = simulate.empty_totals()
        totals |= {"seeds": 1234, "events": 5678901, "simulated_seconds": 9000.0}
        simulate.append_totals(self.page, "9.8.7", {"kv": totals, "chain": totals})
        added = self.page.read_text(encoding="utf-8")[len(self.before):].splitlines()
        self.assertEqual([ROW.fullmatch(line).groups() for line in added], [("0", "chain"), ("0", "kv")])

    def test_a_page_without_the_table_is_an_error(self):
        self.page.write_text("# Soak totals\n", encoding="utf-8")
        result = self.run_soak()
        self.assertEqual(result.returncode, 1)
        self.assertIn("must have the line", result.stderr)
        self.assertEqual(self.page.read_text(encoding="utf-8"), "# Soak totals\n")

    def test_text_after_the_table_is_an_error(self):
        self.page.write_text(self.before + "\nmore\n", encoding="utf-8")
        result = self.run_soak()
        self.assertEqual(result.returncode, 1)
        self.assertIn("must end with a table row, not 'more'", result.stderr)


if __name__ == "__main__":
    unittest.main()
