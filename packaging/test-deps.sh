#!/bin/sh
# Installs the real clients, servers and desktop services the tests drive, where that
# needs no questions: as root on a Debian-like system. Elsewhere the tests that
# want them skip and say so. With --e2e also those of the tests against real Teleport.
set -eu
. "$(dirname "$0")/apt.sh"

want="psql:postgresql-client pgbench:postgresql-contrib mysql:mariadb-client redis-cli:redis-tools redis-server:redis-server ip:iproute2 tsql:freetds-bin asciinema:asciinema
	dbus-daemon:dbus gnome-keyring-daemon:gnome-keyring
	Xvfb:xvfb xdotool:xdotool zenity:zenity dunst:dunst"
[ "${1-}" != --e2e ] || want="$want pgbouncer:pgbouncer mariadb-install-db:mariadb-server"
# shellcheck disable=SC2086 # a list on purpose
missing=$(lacking $want)
/usr/bin/python3 -c "import kubernetes" 2>/dev/null || missing="$missing python3-kubernetes"
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$missing postgresql"
/usr/bin/python3 -c 'import pymysql' 2>/dev/null || missing="$missing python3-pymysql"
[ "${1-}" != --e2e ] || /usr/bin/python3 -c 'import redis' 2>/dev/null || missing="$missing python3-redis"

# kubectl comes from its own module, built where berth is and once for each
# version: Debian's is too old to stream over WebSocket, and those up to 1.33
# lose what a pod sends first. A newer one on PATH will do.
# Its modules are at berth's versions, and it is built as the tests build berth: what the
# two have in common is compiled once. The rest of Kubernetes is not optimised, which saves
# a third of the time, and kubectl mostly waits.
here=$(cd "$(dirname "$0")" && pwd)
kubectl="$here/../build/tools/kubectl"
kubectl_is() { "$1" version --client -o json 2>/dev/null | sed -n "s/.*\"$2\": \"v*\([0-9.]*\).*/\1/p" | head -n 1; }
version=$(sed -n 's|^[[:space:]]*k8s.io/kubectl v0\.\([0-9.]*\).*|\1|p' "$here/kubectl/go.mod")
if [ "$(kubectl_is "$kubectl" gitVersion)" != "1.$version" ]; then
	minor=$(kubectl_is kubectl minor)
	if [ "${minor:-0}" -lt 34 ]; then
		echo "test-deps: building kubectl 1.$version; this takes a few minutes, once" >&2
		set_version=k8s.io/component-base/version
		(cd "$here/kubectl" && CGO_ENABLED=0 GOGC=400 ${GO:-go} build -gcflags='k8s.io/...=-N -l' \
			-gcflags='k8s.io/apimachinery/...=' -gcflags='sigs.k8s.io/kustomize/...=-N -l' -ldflags "-s -w -X $set_version.gitVersion=v1.$version \
			-X $set_version.gitMajor=1 -X $set_version.gitMinor=${version%%.*}" -o "$kubectl" .) ||
			echo "test-deps: could not build kubectl; the tests that drive it will skip, and fail in CI" >&2
	fi
fi

# shellcheck disable=SC2086 # a list of packages on purpose
apt_install $missing || echo "test-deps: the tests that need them will skip" >&2
