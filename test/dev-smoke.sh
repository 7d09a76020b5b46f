#!/usr/bin/env bash
# Runs the README's first command as a newcomer would: three members come up
# healthy, a key survives a stop with Ctrl-C and a resume, and no process is
# left behind, not even when dev itself is killed.
set -euo pipefail
cd "$(dirname "$0")/.."

dir=$(mktemp -d)
data=$dir/data
dev=

# members prints the ids of the processes that run from the data directory,
# where dev keeps the copy of the binary its members use.
members() {
	local exe
	for exe in /proc/[0-9]*/exe; do
		case "$(readlink "$exe" 2>/dev/null || true)" in
		"$data"/*) exe=${exe#/proc/}; echo "${exe%/exe}" ;;
		esac
	done
}

cleanup() {
	local pid
	[ -n "$dev" ] && kill -KILL -- "-$dev" 2>/dev/null
	for pid in $(members); do kill -KILL "$pid" 2>/dev/null; done
	rm -rf "$dir"
}
trap cleanup EXIT

fail() {
	echo "dev-smoke: $1" >&2
	echo "--- output of dev" >&2
	tail -n 60 "$dir"/out.* >&2
	exit 1
}

# eventually SECONDS WHAT COMMAND...: waits until the command succeeds.
eventually() {
	local deadline=$((SECONDS + $1)) what=$2
	shift 2
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $deadline ] || fail "$what"
		[ -z "$dev" ] || kill -0 "$dev" 2>/dev/null || fail "dev ended early, waiting: $what"
		sleep 0.2
	done
}

# client ARGUMENTS...: the client as dev's env file sets it up, from dev's own
# copy of the binary.
client() (
	# shellcheck disable=SC1091
	. "$data/env"
	"$data/bin/conclave" "$@"
)

three_healthy() {
	[ "$(members | wc -l)" -ge 3 ] && [ "$(client endpoint health --cluster 2>&1 | grep -c 'is healthy')" = 3 ]
}
gone() { [ -z "$(members)" ]; }

# start NUMBER: dev in a process group of its own, as a shell would start it.
start() {
	set -m
	go run ./cmd/conclave dev --dir "$data" >"$dir/out.$1" 2>&1 </dev/null &
	dev=$!
	set +m
	eventually 120 "three healthy members" three_healthy
}

# stop SIGNAL: as a terminal would, to dev's whole group; then nobody is left.
stop() {
	kill "-$1" -- "-$dev"
	wait "$dev" 2>/dev/null || true
	dev=
	eventually 20 "every member process to stop after SIG$1, left: $(members | tr '\n' ' ')" gone
}

start first
echo "dev-smoke: three healthy members after ${SECONDS}s"
[ "$(client put greeting hello)" = OK ] || fail "put answered something else than OK"
stop INT
echo "dev-smoke: stopped, nothing left running"
start again
[ "$(client get greeting --print-value-only)" = hello ] || fail "the key did not survive a stop and a resume"
stop KILL
echo "dev-smoke: resumed with its data; members ended with a killed dev (${SECONDS}s in all)"
