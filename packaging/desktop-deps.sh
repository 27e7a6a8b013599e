#!/bin/sh
# Installs the desktop that "make desktop-test" drives: as root on a Debian-like
# system. Elsewhere it says what is missing, and the test fails.
set -eu

want="Xvfb:xvfb xdotool:xdotool scrot:scrot xclip:xclip xfce4-panel:xfce4-panel xfconf-query:xfconf dbus-daemon:dbus
	zenity:zenity curl:curl psql:postgresql-client xterm:xterm xdg-open:xdg-utils update-desktop-database:desktop-file-utils"
missing=""
for pair in $want; do
	command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair#*:}"
done
ls /usr/lib/*/xfce4/notifyd/xfce4-notifyd >/dev/null 2>&1 || missing="$missing xfce4-notifyd"
# What the panel draws with: without them there are boxes instead of letters.
[ -d /usr/share/icons/Adwaita ] || missing="$missing adwaita-icon-theme"
ls /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf >/dev/null 2>&1 || missing="$missing fonts-dejavu-core"
ls /usr/lib/*/gdk-pixbuf-2.0/2.10.0/loaders/libpixbufloader-svg.so >/dev/null 2>&1 || missing="$missing librsvg2-common"
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1 || [ "$(id -u)" -ne 0 ]; then
	echo "desktop-deps: not root on a Debian-like system; install by hand:$missing" >&2
	exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq || echo "desktop-deps: apt-get update failed; trying with what is known" >&2
# shellcheck disable=SC2086 # a list of packages on purpose
apt-get install -y -qq --no-install-recommends $missing >/dev/null
