#!/bin/sh
# Installs the real clients, servers and desktop services the tests drive, where that
# needs no questions: as root on a Debian-like system. Elsewhere the tests that
# want them skip and say so.
set -eu

want="psql:postgresql-client pgbench:postgresql-contrib mysql:mariadb-client redis-cli:redis-tools redis-server:redis-server ip:iproute2
	dbus-daemon:dbus gnome-keyring-daemon:gnome-keyring"
missing=""
for pair in $want; do
	command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair#*:}"
done
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$missing postgresql"
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
	echo "test-deps: not a Debian-like system; install by hand for the full tests:$missing" >&2
	exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
	echo "test-deps: not root; the tests that need these will skip:$missing" >&2
	exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq || echo "test-deps: apt-get update failed; trying with what is known" >&2
# shellcheck disable=SC2086 # a list of packages on purpose
apt-get install -y -qq --no-install-recommends $missing >/dev/null || {
	echo "test-deps: could not install:$missing; the tests that need them will skip" >&2
}
