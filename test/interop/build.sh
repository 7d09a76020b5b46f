#!/bin/sh
# Builds the real etcd, etcdctl and etcdutl of the version pinned in go.mod
# into bin/interop/ at the top of the repository, with low priority. Programs
# already built from the same go.mod are kept; FORCE=1 builds them again.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/../../bin/interop}
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$here"

stamp=$(go version; cat go.mod)
for tool in etcd=server etcdctl=etcdctl etcdutl=etcdutl; do
	name=${tool%%=*}
	pkg=go.etcd.io/etcd/${tool#*=}/v3
	if [ -z "${FORCE:-}" ] && [ -x "$out/$name" ] &&
		[ "$(cat "$out/.$name.stamp" 2>/dev/null)" = "$stamp" ]; then
		continue
	fi
	# The stamp leaves first, so that a build cut short is not taken as done.
	rm -f "$out/.$name.stamp"
	nice -n 10 go build -trimpath -o "$out/$name.tmp" "$pkg"
	mv "$out/$name.tmp" "$out/$name"
	printf '%s\n' "$stamp" >"$out/.$name.stamp"
	echo "built $out/$name"
done
