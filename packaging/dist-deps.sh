#!/bin/sh
# Installs what "make dist" and "make test-packages" use beside Go, where that
# needs no questions: as root on a Debian-like system. Elsewhere it says what is
# missing; without wixl there is no MSI.
set -eu
. "$(dirname "$0")/apt.sh"

missing=$(lacking wixl:wixl msiinfo:msitools lintian:lintian rpm:rpm zstd:zstd man:man-db desktop-file-validate:desktop-file-utils \
	shellcheck:shellcheck systemd-analyze:systemd zsh:zsh fish:fish)
[ -e /usr/share/bash-completion/bash_completion ] || missing="$missing bash-completion"
# shellcheck disable=SC2086 # a list of packages on purpose
apt_install $missing || echo "dist-deps: the result lacks what needs them" >&2
