#!/bin/sh
# Installs what "make wine-test" needs: as root on a Debian-like system. Where
# there is no wine that is recent enough, the test skips and says so.
set -eu

. "$(dirname "$0")/apt.sh"

least=10
missing=$(lacking Xvfb:xvfb xdotool:xdotool scrot:scrot)
if [ -z "${BERTH_WINE:-}" ] && ! command -v wine >/dev/null 2>&1; then
	! can_install || apt_update
	have=$(apt-cache policy wine 2>/dev/null | sed -n 's/^ *Candidate: \([0-9]*\).*/\1/p')
	if [ "${have:-0}" -ge "$least" ]; then
		missing="$missing wine wine64"
	else
		echo "wine-deps: this system offers wine ${have:-none}, and berth.exe wants $least or later: make one with packaging/wine-root.sh, and name it in BERTH_WINE" >&2
	fi
fi
# shellcheck disable=SC2086 # a list of packages on purpose
apt_install $missing || exit 0
