"""What fail2ban makes of log lines with the filter that we ship: its own fail2ban-regex, run from an unpacked package (no daemon)."""
import os
import subprocess

PEERS = os.environ.get("WAYPOST_TEST_PEERS", "")
FILTER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../contrib/fail2ban/waypost.conf")


def available():
    return os.path.exists(PEERS + "/usr/bin/fail2ban-regex")


def hosts(lines, directory):
    """The addresses that it would count a failure of, one for each line that the filter matches."""
    log = str(directory) + "/fail2ban.log"
    with open(log, "w") as f:
        f.write("".join(l + "\n" for l in lines))
    r = subprocess.run(["/usr/bin/python3", PEERS + "/usr/bin/fail2ban-regex", "-c", PEERS + "/etc/fail2ban", "-o", "ip", log, FILTER],
                       env=dict(os.environ, PYTHONPATH=PEERS + "/usr/lib/python3/dist-packages", PYTHONDONTWRITEBYTECODE="1"), capture_output=True, text=True, timeout=60)
    assert r.returncode == 0 and not r.stderr, r.stderr
    return r.stdout.split()
