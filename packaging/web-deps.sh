#!/bin/sh
# Installs what builds and checks internal/web: Node with npm, and with --browser
# Chromium, Firefox and psql, as root on a Debian-like system; then the packages of the lock file.
# Fails, and says what is missing, where that cannot be.
set -eu
. "$(dirname "$0")/apt.sh"

want="node:nodejs npm:npm"
[ "${1:-}" != --browser ] || want="$want chromium:chromium firefox-esr:firefox-esr psql:postgresql-client"
# shellcheck disable=SC2046,SC2086 # lists on purpose
apt_install $(lacking $want)

cd "$(dirname "$0")/../internal/web"
installed=node_modules/.package-lock.json
# shellcheck disable=SC3013 # every sh of these systems has -nt
if [ ! -e "$installed" ] || [ package-lock.json -nt "$installed" ]; then
	npm ci --no-audit --no-fund --loglevel=error
	touch "$installed"
fi
