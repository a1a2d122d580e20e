"""The account's process dies under its sessions, and while they log in."""
import imaplib
import os
import poplib
import signal
import time

import pytest

from waypost import message

ALICE = "alice@example.test"


def idling(w):
    c = w.imap(ALICE, mailbox="INBOX")
    c.send(b"i1 IDLE\r\n")
    assert c.readline().startswith(b"+")
    return c


def test_its_death_ends_its_sessions_and_the_next_login_works(server):
    """A client sees the end of the connection, whatever it was doing; it does not wait for ever."""
    quiet, idle, pop = server.imap(ALICE, mailbox="INBOX"), idling(server), server.pop3(ALICE)
    asking = server.imap(ALICE, mailbox="INBOX")
    asking.append("INBOX", None, None, message("kept"))
    (mda,) = server.account_processes()
    os.kill(mda, signal.SIGSTOP)  # so that a command waits for its answer when it dies
    asking.send(b"x1 NOOP\r\n")
    os.kill(mda, signal.SIGKILL)
    start = time.monotonic()
    for c in (quiet, idle, asking):
        c.sock.settimeout(10)
        while c.readline():  # what was said before; then the end
            pass
    with pytest.raises(poplib.error_proto):
        pop.sock.settimeout(10)
        pop.noop()
    assert time.monotonic() - start < 5
    again = server.imap(ALICE, mailbox="INBOX")
    assert again.search(None, "SUBJECT", "kept") == ("OK", [b"1"])
    again.logout()
    assert server.pop3(ALICE).stat()[0] == 1


def test_logins_while_it_dies_again_and_again(server):
    """A login that meets the death is refused in words or its connection ends; it never hangs, and the next one is served."""
    served = 0
    for _ in range(15):
        try:
            c = server.imap()
            c.sock.settimeout(20)
            c.login(ALICE, server.accounts[ALICE])
            for pid in server.account_processes():
                os.kill(pid, signal.SIGKILL)
            c.select()
        except imaplib.IMAP4.error as e:
            assert "AUTHENTICATIONFAILED" not in str(e)
        except OSError as e:
            assert not isinstance(e, TimeoutError), "a login hangs"
        else:
            served += 1
        c.shutdown()
    c = server.imap(ALICE, mailbox="INBOX")
    c.logout()
