"""summary.py RESULTS SKIPS: adds up what tests/run left in RESULTS and prints one last line. Exit 1 when anything failed.

A unit program that ended without its closing line or has no tests counts as one failure, and so does a run that pytest did not bring to
its end, and a skip that the file SKIPS does not name: its lines are `RUN[,RUN] TEST: reason`, RUN one of e2e-root, e2e-user and e2e-sanitized
and TEST the beginning of `file.test`.
"""
import glob, os, re, sys
import xml.etree.ElementTree as ET

results, skips_file = sys.argv[1:3]
allowed = [l.split(":", 1)[0].split() for l in open(skips_file) if l.strip() and not l.startswith("#")]
passed = failed = skipped = 0


def fail(what):
    global failed
    failed += 1
    print("failed: " + what)


def read(path):
    try:
        return open(path, errors="replace").read()
    except OSError:
        return ""


def passed_alone(name):
    """Labels of the cases that passed in the second run of an end-to-end part, where there was one."""
    path = "%s/alone-%s.xml" % (results, name[len("e2e-"):])
    if not os.path.exists(path):
        return set()
    bad = lambda c: any(c.find(k) is not None for k in ("failure", "error", "skipped"))
    cases = ["%s %s.%s" % (name, c.get("classname"), c.get("name")) for c in ET.parse(path).iter("testcase") if not bad(c)]
    failed_too = {"%s %s.%s" % (name, c.get("classname"), c.get("name")) for c in ET.parse(path).iter("testcase") if bad(c)}
    return set(cases) - failed_too


for entry in [a for a in allowed if len(a) != 2]:
    allowed.remove(entry)
    fail("tests/skips: not RUN TEST: " + " ".join(entry))
for rc_file in sorted(glob.glob(results + "/*.rc")):
    name = os.path.basename(rc_file)[:-3]
    rc = int(read(rc_file).strip() or 1)
    log = read(rc_file[:-3] + ".log")
    if name.startswith("unit-"):
        m = re.findall(r"Tested: (\d+) \| Passing: (\d+) \| Failing: (\d+) \| Crashing: (\d+)", log)
        if not m:
            fail("%s: no closing line (exit %d)" % (name, rc))
            continue
        tested, ok, bad, crashed = map(int, m[-1])
        if not tested:
            fail("%s: has no tests" % name)
        passed += ok
        failed += bad + crashed
        if bad + crashed or rc:
            print("failed: %s\n%s" % (name, "\n".join(l for l in log.splitlines() if "FAIL" in l or "----" in l or "CRASH" in l)[:4000]))
        if rc and not bad + crashed:
            fail("%s: exit %d" % (name, rc))
    elif name.startswith("fuzz-") or name == "rules":
        if rc:
            fail("%s: exit %d\n%s" % (name, rc, log[-3000:]))
        else:
            passed += 1
    elif name.startswith("e2e-"):
        if not os.path.exists(rc_file[:-3] + ".xml"):
            fail("%s: no result (exit %d)\n%s" % (name, rc, log[-3000:]))
            continue
        if rc not in (0, 1):
            fail("%s: pytest ended with %d\n%s" % (name, rc, log[-3000:]))
        alone = passed_alone(name)
        for case in ET.parse(rc_file[:-3] + ".xml").iter("testcase"):
            label = "%s %s.%s" % (name, case.get("classname"), case.get("name"))
            skip = case.find("skipped")
            bad = case.find("failure") if case.find("failure") is not None else case.find("error")
            if bad is not None:
                # the message of an instance that did not do what was expected ends with its log: that end says most
                said = "\n".join("    " + l for l in (bad.text or bad.get("message") or "")[-3000:].splitlines())
                if label in alone:
                    passed += 1
                    print("passed only when run again, alone: %s\n%s" % (label, said))
                else:
                    fail("%s\n%s" % (label, said))
            elif skip is not None:
                if any(name in runs.split(",") and ("%s.%s" % (case.get("classname"), case.get("name"))).startswith(test) for runs, test in allowed):
                    skipped += 1
                    print("skipped: %s (%s)" % (label, skip.get("message")))
                else:
                    fail("%s: skipped without leave (%s)" % (label, skip.get("message")))
            else:
                passed += 1
if passed + failed + skipped == 0:
    fail("no test ran")
print("%d passed, %d failed, %d skipped" % (passed, failed, skipped))
sys.exit(1 if failed else 0)
