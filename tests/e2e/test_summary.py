"""tests/summary.py: nothing that went wrong is counted as well, and a skip needs leave for its run and its test."""
import os
import subprocess
import sys

import pytest

SUMMARY = os.path.join(os.path.dirname(__file__), "../summary.py")
LINE = "[====] Synthesis: Tested: %d | Passing: %d | Failing: %d | Crashing: %d \n"
CASE = '<testcase classname="test_%s" name="test_%s">%s</testcase>'
SKIPS = "# a comment\n\ne2e-user test_a.test_one: why\ne2e-user,e2e-sanitized test_b.: why\n"


def xml(*cases):
    return "<testsuites><testsuite>%s</testsuite></testsuites>" % "".join(CASE % c for c in cases)


GOOD, SKIPPED, BAD = "", '<skipped message="m"/>', '<failure message="m">text</failure>'


@pytest.mark.parametrize("files, result", [
    ({"unit-plain-t-a.log": LINE % (3, 3, 0, 0), "unit-plain-t-a.rc": "0"}, "3 passed, 0 failed, 0 skipped"),
    ({"unit-plain-t-a.log": LINE % (3, 1, 1, 1), "unit-plain-t-a.rc": "1"}, "1 passed, 2 failed, 0 skipped"),
    ({"unit-plain-t-a.log": LINE % (0, 0, 0, 0), "unit-plain-t-a.rc": "0"}, "0 passed, 1 failed, 0 skipped"),
    ({"unit-plain-t-a.log": "Segmentation fault\n", "unit-plain-t-a.rc": "139"}, "0 passed, 1 failed, 0 skipped"),
    ({"unit-plain-t-a.log": LINE % (3, 3, 0, 0), "unit-plain-t-a.rc": "139"}, "3 passed, 1 failed, 0 skipped"),
    ({"rules.log": "", "rules.rc": "0"}, "1 passed, 0 failed, 0 skipped"),
    ({"rules.log": "RFC5321:2.3.8  src/a.c:1\n", "rules.rc": "1"}, "0 passed, 1 failed, 0 skipped"),
    ({"fuzz-f-a.log": "", "fuzz-f-a.rc": "0", "fuzz-f-b.log": "", "fuzz-f-b.rc": "77"}, "1 passed, 1 failed, 0 skipped"),
    ({"e2e-root.xml": xml(("a", "one", GOOD), ("a", "two", BAD)), "e2e-root.rc": "1"}, "1 passed, 1 failed, 0 skipped"),
    ({"e2e-root.xml": xml(("a", "one", GOOD)), "e2e-root.rc": "2"}, "1 passed, 1 failed, 0 skipped"),
    ({"e2e-root.rc": "3"}, "0 passed, 1 failed, 0 skipped"),
    ({"e2e-user.xml": xml(("a", "one", SKIPPED), ("b", "two", SKIPPED)), "e2e-user.rc": "0"}, "0 passed, 0 failed, 2 skipped"),
    ({"e2e-sanitized.xml": xml(("a", "one", SKIPPED), ("b", "two", SKIPPED)), "e2e-sanitized.rc": "0"}, "0 passed, 1 failed, 1 skipped"),
    ({"e2e-root.xml": xml(("a", "one", SKIPPED), ("b", "two", SKIPPED)), "e2e-root.rc": "0"}, "0 passed, 2 failed, 0 skipped"),
    ({"e2e-user.xml": xml(("c", "test_b.", SKIPPED)), "e2e-user.rc": "0"}, "0 passed, 1 failed, 0 skipped"),
    ({"e2e-root.xml": xml(("a", "one", BAD)), "e2e-root.rc": "1", "alone-root.xml": xml(("a", "one", GOOD))}, "1 passed, 0 failed, 0 skipped"),
    ({"unit-plain-t-a.log": LINE % (3, 3, 0, 0), "unit-plain-t-a.rc": "0", "skips": "test_a: why\n"}, "3 passed, 1 failed, 0 skipped"),
    ({}, "0 passed, 1 failed, 0 skipped"),
])
def test_what_is_counted(tmp_path, files, result):
    for name, text in {"skips": SKIPS, **files}.items():
        (tmp_path / name).write_text(text)
    r = subprocess.run([sys.executable, SUMMARY, str(tmp_path), str(tmp_path / "skips")], text=True, capture_output=True)
    assert r.stdout.splitlines()[-1] == result, r.stdout + r.stderr
    assert r.returncode == (0 if " 0 failed" in result else 1)
