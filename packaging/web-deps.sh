#!/bin/sh
# Installs what builds and checks internal/web: Node with npm, and with --browser
# Chromium and psql, as root on a Debian-like system; then the packages of the lock file.
# Fails, and says what is missing, where that cannot be.
set -eu
want="node:nodejs npm:npm"
[ "${1:-}" != --browser ] || want="$want chromium:chromium psql:postgresql-client"
missing=""
for pair in $want; do
	command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair#*:}"
done
if [ -n "$missing" ]; then
	if ! command -v apt-get >/dev/null 2>&1 || [ "$(id -u)" -ne 0 ]; then
		echo "web-deps: not root on a Debian-like system; install by hand:$missing" >&2
		exit 1
	fi
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -qq || echo "web-deps: apt-get update failed; trying with what is known" >&2
	# shellcheck disable=SC2086 # a list of packages on purpose
	apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi
cd "$(dirname "$0")/../internal/web"
installed=node_modules/.package-lock.json
if [ ! -e "$installed" ] || [ package-lock.json -nt "$installed" ]; then
	npm ci --no-audit --no-fund --loglevel=error
	touch "$installed"
fi
