"""The supervisor with a program of the tests' own in the place of every service (tests/probe): deaths, fresh pairs, bad frames, two-phase
reloads, refusals, the operators' door. What the real services do under it is test_supervisor.py's."""
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import time

import pytest

import waypost as wp
from waypost import until

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NAMES = re.findall(r"^\s+M\((\w+),", open(SOURCE + "/src/ipc/messages.h").read(), re.M)
TYPES = {name: i + 1 for i, name in enumerate(NAMES)}
PROGRAMS = ("zygote", "authd", "tallyd", "qmgr", "relay", "policyd", "keyd", "smtpd", "imapd", "pop3d")


def text(s):
    return struct.pack("<I", len(s)) + s


class Operator:
    """The operators' protocol, apart from the `waypost` command: a service name, arguments, a command; rows and an end."""

    def __init__(self, path, service):
        self.s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.s.settimeout(wp.PATIENCE)
        self.s.connect(path)
        self.s.send(service.encode().ljust(32, b"\0"))

    def frame(self, name, body):
        self.s.send(struct.pack("<HBBQ", TYPES[name], 0, 0, 0) + body)

    def call(self, command, *args):
        for a in args:
            self.frame("adm_arg", text(a.encode()))
        self.frame("adm_go", text(command.encode()))
        rows, row = [], {}
        while True:
            f = self.s.recv(70000)
            if not f:
                return None, rows, "closed"
            kind, body = NAMES[struct.unpack("<H", f[:2])[0] - 1], f[12:]
            if kind == "adm_rows":
                at = 4
                while at < len(body):
                    what = body[at]
                    if what == 255:
                        rows.append(row)
                        row, at = {}, at + 1
                        continue
                    name = body[at + 2:at + 2 + body[at + 1]].decode()
                    at += 2 + body[at + 1]
                    size = struct.unpack("<I", body[at:at + 4])[0] if what == 0 else 4
                    row[name] = body[at + 4:at + 4 + size].decode() if what == 0 else struct.unpack("<Q", body[at:at + 8])[0]
                    at += 4 + size
            elif kind == "adm_end":
                return body[0], rows, body[5:].decode()


class World:
    def __init__(self, tmp):
        self.dir = str(tmp)
        self.programs = self.dir + "/programs"
        os.makedirs(self.programs)
        os.chmod(self.dir, 0o755)
        shutil.copy(wp.PROGRAMS + "/waypostd", self.programs)
        for p in PROGRAMS:
            shutil.copy(wp.BUILD + "/tests/probe/probe", self.programs + "/" + p)
        self.conf, self.log, self.proc = self.dir + "/waypost.conf", self.dir + "/log", None
        self.address = wp.fresh_address()
        self.write()

    def write(self, hostname="ok.test", more="", tls=""):
        with open(self.conf, "w") as f:
            f.write("hostname %s; state state; run run; stop-timeout 3s;\n%s\nlisten mx { protocol smtp; address %s; port 2525; tls %s; }\n"
                    "listen imap { protocol imap; address %s; port 2143; tls none; plaintext-login yes; }\n%s\n" %
                    (hostname, tls, self.address, "starttls" if tls else "none", self.address, more))

    def start(self, *options, **env):
        path = self.dir + "/notify"
        if os.path.exists(path):
            os.unlink(path)
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(path)
        self.notify.settimeout(wp.PATIENCE)
        with open(self.log, "ab") as log:
            self.proc = subprocess.Popen([self.programs + "/waypostd", "-c", self.conf] + list(options), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                         env=dict(os.environ, NOTIFY_SOCKET=path, **env), start_new_session=True)
        return self

    def ready(self):
        while b"READY=1" not in self.notify.recv(4096):
            pass
        return self

    def logged(self):
        return open(self.log, errors="replace").read()

    def wait_log(self, pattern, count=1):
        return until(lambda: len(re.findall(pattern, self.logged())) >= count, lambda: "%s in\n%s" % (pattern, self.logged()))

    def ask(self, service, command, *args):
        return Operator(self.dir + "/run/admin.sock", service).call(command, *args)

    def tell(self, service):
        status, rows, said = self.ask(service, "tell")
        assert status == 0, said
        return rows[0]

    def status(self):
        return {(r["service"], r["instance"]): r for r in self.ask("waypostd", "status")[1]}

    def peers(self, service):
        return {(p["peer"], p["instance"]): p for p in self.ask(service, "peers")[1]}

    def stop(self):
        if self.proc and self.proc.poll() is None:
            self.proc.send_signal(signal.SIGTERM)
            try:
                return self.proc.wait(wp.PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(self.proc.pid, signal.SIGKILL)
                raise AssertionError("it did not stop:\n" + self.logged())
        return self.proc.returncode if self.proc else None


@pytest.fixture
def idle(tmp_path):
    for p in [tmp_path] + list(tmp_path.parents)[:3]:  # system users pass through
        if os.stat(p).st_uid == os.geteuid() and str(p) != "/":
            os.chmod(p, os.stat(p).st_mode | 0o011)
    w = World(tmp_path / "w")
    yield w
    if w.proc and w.proc.poll() is None:
        w.stop()


@pytest.fixture
def world(idle):
    return idle.start().ready()


def ready(w, service, instance=0):
    return w.status()[(service, instance)]["state"] == "ready"


def test_everything_that_the_configuration_asks_for_runs(world):
    st = world.status()
    assert set(st) == {("waypostd", 0), ("zygote", 0), ("authd", 0), ("tallyd", 0), ("qmgr", 0), ("relay", 0), ("policyd-judge", 0), ("keyd", 0), ("smtpd-mx", 0), ("smtpd-local", 0), ("imapd", 0), ("imapd", 1)}
    for (service, _), r in st.items():
        assert r["state"] == "ready" and r["pid"] > 0, r
        assert service == "waypostd" or "seccomp" in r["sandbox"], r
        assert (r["uid"] == os.geteuid()) == (service == "waypostd" or not wp.AS_ROOT), r
    end = world.ask("waypostd", "status")[2]
    assert ("Landlock only" in end) == (not wp.AS_ROOT)
    assert world.stop() == 0
    assert "service-died" not in world.logged()


def test_each_program_has_the_channels_of_the_table_and_no_other(world):
    want = {"smtpd-mx": {("authd", 0), ("qmgr", 0), ("tallyd", 0), ("policyd-judge", 0), ("keyd", 0)}, "policyd-judge": {("smtpd-mx", 0)}, "imapd": {("authd", 0), ("tallyd", 0), ("keyd", 0)},
            "keyd": {("smtpd-mx", 0), ("imapd", 0), ("imapd", 1)},
            "tallyd": {("authd", 0), ("smtpd-mx", 0), ("imapd", 0), ("imapd", 1)}, "relay": {("qmgr", 0)}, "zygote": {("authd", 0), ("qmgr", 0)},
            "authd": {("zygote", 0), ("qmgr", 0), ("tallyd", 0), ("smtpd-mx", 0), ("imapd", 0), ("imapd", 1)},
            "qmgr": {("zygote", 0), ("authd", 0), ("smtpd-mx", 0), ("smtpd-local", 0), ("relay", 0)}, "smtpd-local": {("qmgr", 0)}}
    for service, peers in want.items():
        got = world.peers(service)
        assert set(got) == peers, service
        assert all(p["up"] and p["epoch"] == 1 for p in got.values()), got
    assert world.tell("qmgr")["store"] and not world.tell("authd")["store"]
    assert world.tell("smtpd-mx")["listeners"] == 1 and world.tell("authd")["listeners"] == 0


@pytest.mark.parametrize("service", ["authd", "qmgr", "keyd", "smtpd-mx", "smtpd-local", "imapd", "relay", "zygote"])
def test_a_crash_is_named_restarted_and_the_survivors_get_fresh_pairs(world, service):
    before = world.status()
    assert world.ask(service, "crash")[0] is None
    world.wait_log(r'service-died service="?%s( 0)?"? pid=%d signal=SIG(ABRT|SEGV|ILL)' % (service, before[(service, 0)]["pid"]))
    until(lambda: ready(world, service) and world.status()[(service, 0)]["pid"] != before[(service, 0)]["pid"], "a restart")
    after = world.status()
    assert after[(service, 0)]["restarts"] == 1
    assert all(after[k]["pid"] == before[k]["pid"] for k in after if k != (service, 0)), "the others live on"
    for name, instance in world.peers(service):
        if instance == 0:
            until(lambda: world.peers(name)[(service, 0)]["up"] and world.peers(name)[(service, 0)]["epoch"] == 2, name + " has its fresh end")
    if service == "qmgr":  # and it carries
        n = world.tell("smtpd-mx")["msgs"]
        world.ask("qmgr", "greet")
        until(lambda: world.tell("smtpd-mx")["msgs"] == n + 1, "a message over the fresh pair")


def test_a_listener_is_kept_while_its_program_is_dead(world):
    os.kill(world.status()[("smtpd-mx", 0)]["pid"], signal.SIGKILL)
    for _ in range(50):
        with socket.create_connection((world.address, 2525), timeout=wp.PATIENCE):
            pass


def test_many_deaths_are_answered_more_and_more_slowly(world):
    for i in range(8):
        until(lambda: ready(world, "relay"), "relay")
        os.kill(world.status()[("relay", 0)]["pid"], signal.SIGKILL)
        world.wait_log("service-died service=relay", i + 1)
    waits = [int(n) for n in re.findall(r"service-died service=relay .* restart-in-ms=(\d+)", world.logged())]
    assert waits[0] <= 50 and waits[7] >= 500 and waits == sorted(waits)
    assert all(r["restarts"] == 0 for (s, _), r in world.status().items() if s != "relay")


def test_a_bad_frame_ends_that_channel_and_a_fresh_pair_comes(world):
    before = world.status()
    assert world.ask("smtpd-mx", "garbage")[0] == 0
    for peer in ("authd", "qmgr", "keyd"):
        until(lambda: (lambda p: p["up"] and p["epoch"] == 2)(world.peers(peer)[("smtpd-mx", 0)]), "a fresh pair for " + peer)
    until(lambda: all(p["up"] for p in world.peers("smtpd-mx").values()), "both ends")
    assert {k: r["pid"] for k, r in world.status().items()} == {k: r["pid"] for k, r in before.items()}, "nobody died of it"
    assert "bad-frame" in world.logged()


def test_reload_switches_everybody_or_nobody(world):
    before = {k: r["pid"] for k, r in world.status().items()}
    world.write(hostname="new.test")
    status, _, said = world.ask("waypostd", "reload")
    assert status == 0 and "hostname" in said, said
    for s in ("authd", "tallyd", "qmgr", "relay", "keyd", "smtpd-mx", "smtpd-local", "imapd", "zygote"):
        until(lambda: world.tell(s)["hostname"] == "new.test", s)
        assert world.tell(s)["reloads"] == 1
    world.write(hostname="refuse.qmgr.test")
    status, _, said = world.ask("waypostd", "reload")
    assert status == 1 and "qmgr: told to refuse" in said, said
    for s in ("authd", "tallyd", "qmgr", "relay", "smtpd-mx"):
        assert world.tell(s)["hostname"] == "new.test" and world.tell(s)["reloads"] == 1, s
    assert {k: r["pid"] for k, r in world.status().items()} == before
    world.write(hostname="third.test")
    world.proc.send_signal(signal.SIGHUP)
    until(lambda: world.tell("authd")["hostname"] == "third.test", "SIGHUP")
    assert b"RELOADING=1" in world.notify.recv(4096)


def test_a_reload_ends_where_a_fresh_start_does(world):
    """HAZARDS 31: nothing is parsed differently, or left out, on the way of a reload."""
    def all_told():
        keys = ("hostname", "listeners", "cert", "key", "store", "uid")
        return {s: {k: world.tell(s)[k] for k in keys} for s in ("zygote", "authd", "tallyd", "qmgr", "relay", "keyd", "smtpd-mx", "smtpd-submission", "imapd", "pop3d")}
    ca = wp.Authority(world.dir + "/ca")
    cert, key = ca.issue("server", ["mail.test"], world.dir)
    more = "".join("listen %s { protocol %s; address %s; port %d; }\n" % (n, p, world.address, port)
                   for n, p, port in (("s", "submission", 2587), ("s2", "submission", 2465), ("p", "pop3", 2110)))
    world.write(hostname="other.test", more=more + "imap { instances 1; }\nqueue { expire 1h; }\n", tls="tls { certificate %s; key %s; }" % (cert, key))
    assert world.ask("waypostd", "reload")[0] == 0
    until(lambda: ready(world, "pop3d") and ready(world, "smtpd-submission") and ("imapd", 1) not in world.status(), "the new programs")
    reloaded, names = all_told(), set(world.status())
    assert reloaded["smtpd-submission"]["listeners"] == 2 and reloaded["smtpd-mx"]["cert"]
    assert {s for s, r in reloaded.items() if r["key"]} == {"keyd"}
    assert world.stop() == 0
    world.start().ready()
    assert all_told() == reloaded and set(world.status()) == names


def test_a_program_that_dies_while_a_reload_asks(world):
    """The reload ends in time, one way or the other, and everybody runs with one and the same generation."""
    pid = world.status()[("qmgr", 0)]["pid"]
    os.kill(pid, signal.SIGSTOP)
    world.write(hostname="new.test")
    world.proc.send_signal(signal.SIGHUP)
    until(lambda: world.ask("waypostd", "reload")[0] == 4, "a reload under way")
    os.kill(pid, signal.SIGKILL)
    world.wait_log("reloaded generation=2")
    until(lambda: ready(world, "qmgr"), "qmgr")
    assert {world.tell(s)["hostname"] for s in ("authd", "tallyd", "qmgr", "relay", "keyd", "smtpd-mx", "smtpd-local", "imapd", "zygote")} == {"new.test"}


def test_a_stop_while_a_reload_asks(world):
    os.kill(world.status()[("qmgr", 0)]["pid"], signal.SIGSTOP)
    world.write(hostname="new.test")
    world.proc.send_signal(signal.SIGHUP)
    until(lambda: world.ask("waypostd", "reload")[0] == 4, "a reload under way")
    assert world.stop() == 0
    assert "reload-refused" in world.logged()


def test_a_start_right_after_the_supervisor_was_killed(world):
    for _ in range(3):
        world.proc.kill()
        world.proc.wait()
        world.start().ready()
    assert ready(world, "smtpd-mx")


def test_a_reload_of_a_wrong_file_says_every_line(world):
    world.write(more="smtp { max-recipients many; }\nquue { }\n")
    status, _, said = world.ask("waypostd", "reload")
    assert status == 1 and len(said.strip().splitlines()) == 2 and "waypost.conf:5: " in said, said
    world.write(more="\n")
    text_ = open(world.conf).read()
    open(world.conf, "w").write(text_.replace("state state", "state elsewhere"))
    status, _, said = world.ask("waypostd", "reload")
    assert status == 1 and "state" in said, said


def test_reload_adds_and_takes_away_listeners_and_programs(world):
    world.write(more="listen pop { protocol pop3; address %s; port 2110; tls none; plaintext-login yes; }\nimap { instances 3; }\n" % world.address)
    assert world.ask("waypostd", "reload")[0] == 0
    until(lambda: ready(world, "pop3d") and ready(world, "imapd", 2), "new programs")
    assert ("imapd", 2) in world.peers("authd") and ("pop3d", 0) in world.peers("authd")
    socket.create_connection((world.address, 2110), timeout=wp.PATIENCE).close()
    mx = world.status()[("smtpd-mx", 0)]["pid"]
    world.write(more="imap { instances 1; }\n")
    assert world.ask("waypostd", "reload")[0] == 0
    until(lambda: set(world.status()) == {("waypostd", 0), ("zygote", 0), ("authd", 0), ("tallyd", 0), ("qmgr", 0), ("relay", 0), ("policyd-judge", 0), ("keyd", 0), ("smtpd-mx", 0), ("smtpd-local", 0), ("imapd", 0)}, "surplus programs leave")
    with pytest.raises(OSError):
        socket.create_connection((world.address, 2110), timeout=wp.PATIENCE).close()
    assert world.status()[("smtpd-mx", 0)]["pid"] == mx
    until(lambda: world.tell("imapd")["listeners"] == 1, "listeners")


def test_what_cannot_be_followed_starts_anew(world):
    before = world.status()
    world.write(more="dns { local-zones no; }\n")
    assert world.ask("waypostd", "reload")[0] == 0
    until(lambda: ready(world, "relay") and world.status()[("relay", 0)]["pid"] != before[("relay", 0)]["pid"], "a new relay")
    after = world.status()
    assert all(after[k]["pid"] == before[k]["pid"] for k in before if k[0] not in ("relay", "policyd-judge"))
    assert "service-died" not in world.logged()


def test_a_renewed_certificate_is_passed_on(idle):
    """To keyd first, to the fronts when it has it; the key to keyd alone."""
    ca = wp.Authority(idle.dir + "/ca")
    cert, key = ca.issue("server", ["mail.test"], idle.dir)
    idle.write(tls="tls { certificate %s; key %s; }" % (cert, key))
    idle.start().ready()
    assert idle.tell("smtpd-mx")["cert"] and not idle.tell("smtpd-mx")["key"] and not idle.tell("imapd")["cert"]
    assert idle.tell("keyd")["cert"] and idle.tell("keyd")["key"]
    assert idle.tell("smtpd-mx")["certs"] == 0
    ca.issue("server", ["mail.test"], idle.dir)
    until(lambda: idle.tell("smtpd-mx")["certs"] == 1, "the new certificate, unasked")
    assert idle.tell("keyd")["certs"] == 1 and idle.tell("smtpd-mx")["reloads"] == 0


def test_keyd_has_the_last_word_on_a_renewed_certificate(idle):
    """Who refuses: nobody else hears of it. Who starts anew: gets what there is, and then the fronts do."""
    ca = wp.Authority(idle.dir + "/ca")
    cert, key = ca.issue("server", ["mail.test"], idle.dir)
    idle.write(hostname="certs.keyd.test", tls="tls { certificate %s; key %s; }" % (cert, key))
    idle.start().ready()
    ca.issue("server", ["mail.test"], idle.dir)
    idle.wait_log("certificates-not-renewed")
    assert idle.tell("smtpd-mx")["certs"] == 0 and "certificates-renewed" not in idle.logged()
    ca.issue("server", ["mail.test"], idle.dir)
    os.kill(idle.status()[("keyd", 0)]["pid"], signal.SIGKILL)
    until(lambda: idle.tell("smtpd-mx")["certs"] == 1, "the chain of the keys that keyd started with")


def test_a_program_that_refuses_at_the_first_start_ends_it_with_its_reason(idle):
    idle.write(hostname="refuse.authd.test")
    idle.start()
    assert idle.proc.wait(wp.PATIENCE) == 1
    assert "waypostd: authd cannot start: told to refuse" in idle.logged()


def test_a_program_that_crashes_at_start_is_tried_again_and_the_rest_runs(idle):
    idle.write(hostname="crash.relay.test")
    idle.start()
    idle.wait_log("service-died service=relay", 3)
    until(lambda: all(r["state"] == "ready" for (s, _), r in idle.status().items() if s not in ("relay", "waypostd")), "the rest")
    assert idle.ask("relay", "tell")[0] == 4


def test_a_program_that_does_not_finish_is_cut_short(idle):
    idle.write(hostname="hang.qmgr.test")
    idle.start().ready()
    begin = time.monotonic()
    assert idle.stop() == 0
    assert 2.5 < time.monotonic() - begin < 30
    assert re.search(r"drain-cut-short|service-killed|stop-cut-short", idle.logged())


def test_the_end_of_the_supervisor_is_the_end_of_all(world):
    pids = [r["pid"] for r in world.status().values()]
    world.proc.kill()
    world.proc.wait()
    until(lambda: not [p for p in pids if os.path.exists("/proc/%d" % p) and open("/proc/%d/stat" % p).read().rsplit(")", 1)[1].split()[0] != "Z"], "nobody is left")
    world.start().ready()
    assert ready(world, "qmgr")


def test_a_second_start_on_the_same_state_is_refused(world):
    r = subprocess.run([world.programs + "/waypostd", "-c", world.conf], capture_output=True, text=True, timeout=wp.PATIENCE)
    assert r.returncode == 1 and "running already" in r.stderr and str(world.proc.pid) in r.stderr, r.stderr
    assert ready(world, "authd")


def test_a_port_that_is_taken_is_named(idle):
    with socket.socket() as s:
        s.bind((idle.address, 2525))
        s.listen()
        idle.start()
        assert idle.proc.wait(wp.PATIENCE) == 1
    assert 'listen "mx": cannot listen on %s port 2525' % idle.address in idle.logged()


def test_in_the_background_the_start_returns_when_all_are_ready(idle):
    idle.write(more="log journal;\n")
    begin = subprocess.run([idle.programs + "/waypostd", "-d", "-c", idle.conf], capture_output=True, text=True, timeout=wp.PATIENCE)
    assert begin.returncode == 0, begin.stderr
    st = idle.status()
    assert all(r["state"] == "ready" for r in st.values())
    pid = st[("waypostd", 0)]["pid"]
    assert idle.ask("waypostd", "stop")[0] == 0
    until(lambda: not os.path.exists("/proc/%d" % pid) or "Z" == open("/proc/%d/stat" % pid).read().rsplit(")", 1)[1].split()[0], "the end")
    idle.write(hostname="refuse.authd.test")
    begin = subprocess.run([idle.programs + "/waypostd", "-d", "-c", idle.conf], capture_output=True, text=True, timeout=wp.PATIENCE)
    assert begin.returncode == 1 and "told to refuse" in begin.stderr


def test_the_door_reads_a_name_and_nothing_more(world):
    path = world.dir + "/run/admin.sock"
    for bad in (b"authd", b"x" * 32, b"authd".ljust(32, b"\0") + b"x", b"../authd".ljust(32, b"\0"), b"authd\0b".ljust(32, b"\0"), b"\0" * 32):
        s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        s.settimeout(wp.PATIENCE)
        s.connect(path)
        s.send(bad)
        try:
            assert s.recv(100) == b"", bad
        except ConnectionResetError:
            pass
    assert world.ask("nobody", "tell")[0] == 3
    assert world.ask("waypost", "tell")[0] == 3
    assert world.ask("waypostd", "nonsense")[0] == 2
    assert world.ask("waypostd", "status", "extra")[0] == 2


@pytest.mark.skipif(not wp.AS_ROOT, reason="as root only: another user is needed")
def test_the_door_admits_root_owner_and_group_only(world):
    path = world.dir + "/run/admin.sock"
    os.chmod(path, 0o666)  # so that only SO_PEERCRED stands between
    code = "import socket,sys\ns=socket.socket(socket.AF_UNIX,socket.SOCK_SEQPACKET)\ns.connect(sys.argv[1])\ns.send(b'waypostd'.ljust(32,b'\\0'))\ns.send(bytes.fromhex(sys.argv[2]))\nf=s.recv(70000)\nprint(f[12:13],f[16:18])"
    go = (struct.pack("<HBBQ", TYPES["adm_go"], 0, 0, 0) + text(b"status")).hex()

    def as_user(*groups):
        return subprocess.run(["setpriv", "--reuid", "61235", "--regid", "61235"] + list(groups) + ["/usr/bin/python3", "-c", code, path, go], capture_output=True, text=True)
    import grp
    refused = as_user("--clear-groups")
    assert refused.stdout.startswith("b'\\x01'") or refused.returncode, refused
    assert "\\x00\\x07" in as_user("--groups", str(grp.getgrnam("waypost").gr_gid)).stdout, "behind the length of the rows a cell: its kind, then the length of `service`"


@pytest.mark.skipif(wp.SANITIZED, reason="sandbox tests use the plain build")
def test_every_running_program_is_locked_in(world):
    for service in ("zygote", "authd", "tallyd", "qmgr", "relay", "smtpd-mx", "imapd"):
        row = world.ask(service, "try")[1][0]
        assert row == {"open-etc": 0, "kill-parent": 0}, service


def test_a_run_folder_with_a_path_too_long_for_a_socket(instances):
    """A socket's address has room for 107 bytes: both sockets are made, found and removed all the same."""
    w = instances("a", start=False)
    run = w.dir + "/" + "/".join(["a-folder-of-thirty-characters."] * 4)
    os.makedirs(os.path.dirname(run))
    w.write_conf()
    with open(w.conf) as f:
        text = f.read()
    with open(w.conf, "w") as f:
        f.write(text.replace("run %s/run;" % w.dir, "run %s;" % run))
    w.start()
    assert len(run) > 120
    assert "qmgr" in w.waypost("status").stdout
    assert sorted(n for n in os.listdir(run) if n.endswith(".sock")) == ["admin.sock", "submit.sock"]
    assert w.stop() == 0
    assert not [n for n in os.listdir(run) if n.endswith(".sock")]
