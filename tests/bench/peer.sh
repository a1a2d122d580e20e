#!/bin/bash
# peer.sh: Waypost as a peer of a benchmark that drives any mail server by verbs.
#   peer.sh start DIR PORT | stop DIR | queue DIR | clean DIR | delivered DIR | suffix DIR | lmtp | cgroup DIR | pids DIR | mem DIR
# As an SMTP peer (the default) PORT is the MX: local.test has u1..u100; sink.test goes to 127.0.0.1:SINK_PORT, dead.test to
# 127.0.0.2:SINK_PORT where nobody listens, both by MX records of a small DNS; hold.test is accepted and held.
# As an IMAP peer (DIR's name has "imap" in it) PORT is imap, PORT+1 imaps, PORT+2 pop3; users u1..u100 and bench, password "pw".
# The drivers' "pw" is shorter than a password may be, so its hash is put into the directory of a stopped instance. HASH=least (the
# default: the peers store theirs in plain text) or real: what one costs to check.
# WAYPOST_BUILD: the build to run. WRAP: a command put before the server's (strace …). Wants root, for the cgroup; the system users
# that Waypost then needs are made at the first start. A driver that changes its directory must be given the whole path of this script:
#   .../run_smtp.sh postfix "$PWD/tests/bench/peer.sh"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
verb=${1:-} DIR=${2:-} PORT=${3:-}
build=${WAYPOST_BUILD:-$here/../../build}
WAYPOST=$build/programs/waypost
[ -x "$WAYPOST" ] || { echo "peer.sh: no $WAYPOST: set WAYPOST_BUILD" >&2; exit 1; }
NUSERS=${NUSERS:-100} SINK_PORT=${SINK_PORT:-18025}

cgroup_base() {
    local d
    for d in /sys/fs/cgroup /sys/fs/cgroup/unified; do
        [ -f "$d/cgroup.procs" ] && mkdir -p "$d/bench" 2>/dev/null && { echo "$d/bench"; return; }
    done
    echo "peer.sh: no writable cgroup" >&2
    return 1
}
pids() { cat "$(cat "$DIR/cgroup")/cgroup.procs" 2>/dev/null; }
wp() { "$WAYPOST" -c "$DIR/waypost.conf" "$@"; }

configure() {
    if [ ! -f "$DIR/key.pem" ]; then
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=bench.test -keyout "$DIR/key.pem" -out "$DIR/cert.pem" 2>/dev/null
    fi
    {
        echo "hostname bench.test; state $DIR/state; run $DIR/run; log stderr;"
        echo "tls { certificate $DIR/cert.pem; key $DIR/key.pem; }"
        case $DIR in
        *imap*)
            echo "listen imap { address 127.0.0.1; port $PORT; protocol imap; plaintext-login yes; }"
            echo "listen imaps { address 127.0.0.1; port $((PORT + 1)); protocol imap; tls implicit; }"
            echo "listen pop3 { address 127.0.0.1; port $((PORT + 2)); protocol pop3; plaintext-login yes; }"
            echo "imap { max-connections 20000; max-connections-each 20000; }"
            ;;
        *)
            echo "listen mx { address 127.0.0.1; port $PORT; protocol smtp; }"
            echo "smtp { max-transactions 1000000; }"
            echo "relay { port $SINK_PORT; tls never; } dns { server 127.0.0.1@$(cat "$DIR/dns-port"); local-zones no; }"
            echo "domain hold.test { hold yes; }"
            ;;
        esac
    } > "$DIR/waypost.conf"
}

# As the directory's owner: the database makes files beside itself.
short_password() {
    python3 -c "
import ctypes, os, sqlite3, sys
owner = os.stat(sys.argv[1])
os.setegid(owner.st_gid)
os.seteuid(owner.st_uid)
sodium = ctypes.CDLL('libsodium.so.23')
out = ctypes.create_string_buffer(128)
passes, memory = (2, 19 << 20) if sys.argv[2] == 'real' else (1, 8192)
if sodium.crypto_pwhash_str_alg(out, b'pw', ctypes.c_ulonglong(2), ctypes.c_ulonglong(passes), ctypes.c_size_t(memory), 2):
    sys.exit('no hash')
with sqlite3.connect(sys.argv[1]) as db:
    db.execute('UPDATE account SET hash = ?', (out.value.decode(),))
" "$DIR/state/directory/directory.db" "${HASH:-least}"
}

launch() {
    (echo "$BASHPID" > "$(cat "$DIR/cgroup")/cgroup.procs" && exec ${WRAP:-} "$WAYPOST" -c "$DIR/waypost.conf" start) >> "$DIR/log" 2>&1 &
    for _ in $(seq 1 300); do wp domain list > /dev/null 2>&1 && (exec 3<>/dev/tcp/127.0.0.1/"$PORT") 2>/dev/null && return; sleep 0.05; done
    return 1
}
quit() {
    wp stop > /dev/null 2>&1
    for _ in $(seq 1 200); do [ -z "$(pids)" ] && break; sleep 0.1; done
    for p in $(pids); do kill -KILL "$p"; done
}

accounts() {
    [ -e "$DIR/accounts" ] && return
    wp domain add local.test || return
    for i in $(seq 1 "$NUSERS"); do echo longer-pw | wp account add "u$i@local.test" --password-stdin || return; done > /dev/null
    case $DIR in
    *imap*)
        echo longer-pw | wp account add bench@local.test --password-stdin || return
        quit
        short_password && launch || return
        ;;
    *)
        for d in hold sink dead; do wp domain add $d.test; done
        echo longer-pw | wp account add u1@hold.test --password-stdin > /dev/null
        wp alias add @sink.test u1@far-sink.test
        wp alias add @dead.test u1@far-dead.test
        ;;
    esac > /dev/null
    touch "$DIR/accounts"
}

case $verb in
start)
    [ "$(id -u)" = 0 ] && { "$here/../../contrib/make-users" || exit; }
    mkdir -p "$DIR"; chmod 755 "$DIR"
    group=$(cgroup_base)/$(basename "$DIR")
    mkdir -p "$group" && echo "$group" > "$DIR/cgroup"
    case $DIR in
    *imap*) ;;
    *)
        python3 "$here/../../contrib/names.py" "$DIR/dns-port" far-sink.test=127.0.0.1 far-dead.test=127.0.0.2 & echo $! > "$DIR/dns-pid"
        until [ -s "$DIR/dns-port" ]; do sleep 0.05; done
        ;;
    esac
    configure
    : > "$DIR/log"
    launch && accounts || { tail -20 "$DIR/log" >&2; quit; exit 1; } ;;
stop)
    quit
    [ -f "$DIR/dns-pid" ] && kill "$(cat "$DIR/dns-pid")" 2>/dev/null
    sleep 0.1; rmdir "$(cat "$DIR/cgroup")" 2>/dev/null; true ;;
queue) wp queue list ;;
clean) wp queue remove --all --yes > /dev/null ;;
delivered) grep -c ' delivered ' "$DIR/log" ;;
suffix) echo @local.test ;;
lmtp) echo none ;;
cgroup) cat "$DIR/cgroup" ;;
pids) pids ;;
mem) for p in $(pids); do cat "/proc/$p/smaps_rollup"; done | awk '/^Rss:/{n++; r+=$2} /^Pss:/{s+=$2} END{printf "processes=%d rss_kib=%d pss_kib=%d\n", n, r, s}' ;;
*) echo "unknown verb $verb" >&2; exit 2 ;;
esac
