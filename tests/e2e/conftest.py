import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))
import dnszone  # noqa: E402
import waypost  # noqa: E402


@pytest.fixture
def instances(tmp_path):
    """make(name, **options) → a started Instance; all are stopped at the end, and none may have crashed or leaked.
    mx=(address, port): where the MX of every other domain leads to, by the answers of a real DNS server."""
    for folder in [tmp_path, *tmp_path.parents]:  # pytest's own folders are closed; programs with uids of their own must pass
        if os.stat(folder).st_uid == os.geteuid() and not os.stat(folder).st_mode & 0o001:
            os.chmod(folder, os.stat(folder).st_mode & 0o777 | 0o055)
    made, zones = [], []

    def make(name="a", start=True, mx=None, **kw):
        if mx:
            zones.append(dnszone.all_test_at(tmp_path / (name + "-dns"), mx[0]))
            kw.update(relay_port=mx[1], dns="127.0.0.1@%d" % zones[-1].port)
        w = waypost.Instance(tmp_path / name, **kw)
        made.append(w)
        if start:
            w.start()
        return w

    yield make
    problems = []
    for w in made:
        try:
            code = w.stop()
            if code:
                problems.append("%s: exit %s" % (w.dir, code))
        except AssertionError as e:
            problems.append(str(e))
        if os.path.exists(w.log_path):
            log = w.logged()
            for sign in ("AddressSanitizer", "LeakSanitizer", "runtime error:", "state machine:", "out of memory", "signal=SIGSYS"):
                if sign in log:
                    problems.append("%s in the log of %s:\n%s" % (sign, w.dir, log[max(0, log.index(sign) - 3000):log.index(sign) + 5000]))
    for z in zones:
        z.stop()
    assert not problems, "\n".join(problems)


@pytest.fixture
def server(instances):
    """One instance with alice and bob at example.test."""
    return instances("a")
