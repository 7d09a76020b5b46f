#!/bin/sh
# Gets the server and etcdctl of etcd 3.4, 3.5 and 3.6 into bin/etcd-MINOR/ at the
# top of the repository: 3.5 and 3.6 are built, with low priority, from the modules
# pinned in etcd-MINOR/go.mod, 3.4 is taken out of Debian's packages without
# installing them. Programs that are there already are kept; FORCE=1 makes them
# again.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$here/../../bin"
bin=$(cd "$here/../../bin" && pwd)

# have MINOR: whether its programs are there.
have() { [ -z "${FORCE:-}" ] && [ -x "$bin/etcd-$1/etcd" ] && [ -x "$bin/etcd-$1/etcdctl" ]; }

for minor in 3.5 3.6; do
	have $minor && continue
	mkdir -p "$bin/etcd-$minor"
	cd "$here/etcd-$minor"
	nice -n 10 go build -trimpath -o "$bin/etcd-$minor/etcd" go.etcd.io/etcd/server/v3
	nice -n 10 go build -trimpath -o "$bin/etcd-$minor/etcdctl" go.etcd.io/etcd/etcdctl/v3
done

if ! have 3.4; then
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	chmod 755 "$work" # apt downloads as another user
	cd "$work"
	apt-get -qq download etcd-server etcd-client
	for package in *.deb; do
		dpkg-deb -x "$package" .
	done
	usr/bin/etcd --version | grep -q '^etcd Version: 3\.4\.' ||
		{ echo "this Debian's etcd is not 3.4; bookworm's is" >&2; exit 1; }
	mkdir -p "$bin/etcd-3.4"
	cp usr/bin/etcd usr/bin/etcdctl "$bin/etcd-3.4/"
fi
