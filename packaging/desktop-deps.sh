#!/bin/sh
# Installs the desktop that "make desktop-test" drives: as root on a Debian-like
# system. Elsewhere it says what is missing, and the test fails.
set -eu
. "$(dirname "$0")/apt.sh"

want="Xvfb:xvfb xdotool:xdotool scrot:scrot xclip:xclip xfce4-panel:xfce4-panel xfconf-query:xfconf dbus-daemon:dbus
	zenity:zenity curl:curl psql:postgresql-client xterm:xterm xdg-open:xdg-utils update-desktop-database:desktop-file-utils"
# shellcheck disable=SC2086 # a list on purpose
missing=$(lacking $want)
ls /usr/lib/*/xfce4/notifyd/xfce4-notifyd >/dev/null 2>&1 || missing="$missing xfce4-notifyd"
# What the panel draws with: without them there are boxes instead of letters.
[ -d /usr/share/icons/Adwaita ] || missing="$missing adwaita-icon-theme"
ls /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf >/dev/null 2>&1 || missing="$missing fonts-dejavu-core"
ls /usr/lib/*/gdk-pixbuf-2.0/2.10.0/loaders/libpixbufloader-svg.so >/dev/null 2>&1 || missing="$missing librsvg2-common"
# shellcheck disable=SC2086 # a list of packages on purpose
apt_install $missing || exit 0
