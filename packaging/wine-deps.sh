#!/bin/sh
# Installs what "make wine-test" needs: as root on a Debian-like system. Where
# there is no wine that is recent enough, the test skips and says so.
set -eu

least=10
missing=""
for pair in Xvfb:xvfb xdotool:xdotool scrot:scrot; do
	command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair#*:}"
done
can=yes
command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" -eq 0 ] || can=""
export DEBIAN_FRONTEND=noninteractive

if [ -z "${BERTH_WINE:-}" ] && ! command -v wine >/dev/null 2>&1; then
	[ -z "$can" ] || apt-get update -qq || echo "wine-deps: apt-get update failed; trying with what is known" >&2
	have=$(apt-cache policy wine 2>/dev/null | sed -n 's/^ *Candidate: \([0-9]*\).*/\1/p')
	if [ "${have:-0}" -ge "$least" ]; then
		missing="$missing wine wine64"
	else
		echo "wine-deps: this system offers wine ${have:-none}, and berth.exe wants $least or later: name another in BERTH_WINE" >&2
	fi
fi
[ -n "$missing" ] || exit 0
if [ -z "$can" ]; then
	echo "wine-deps: not root on a Debian-like system; install by hand:$missing" >&2
	exit 0
fi
# shellcheck disable=SC2086 # a list of packages on purpose
apt-get install -y -qq --no-install-recommends $missing >/dev/null
