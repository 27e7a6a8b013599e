#!/bin/sh
# Installs what "make dist" and "make test-packages" use beside Go, where that
# needs no questions: as root on a Debian-like system. Elsewhere it says what is
# missing; without wixl there is no MSI.
set -eu

missing=""
for pair in wixl:wixl msiinfo:msitools lintian:lintian rpm:rpm zstd:zstd man:man-db desktop-file-validate:desktop-file-utils \
	shellcheck:shellcheck systemd-analyze:systemd zsh:zsh fish:fish; do
	command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair#*:}"
done
[ -e /usr/share/bash-completion/bash_completion ] || missing="$missing bash-completion"
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
	echo "dist: not a Debian-like system; install by hand for the full result:$missing" >&2
	exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
	echo "dist: not root; install these for the full result: apt-get install$missing" >&2
	exit 0
fi
echo "dist: installing$missing" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq || echo "dist: apt-get update failed; trying with what is known" >&2
# shellcheck disable=SC2086 # a list of packages on purpose
apt-get install -y -qq --no-install-recommends $missing >/dev/null ||
	echo "dist: could not install:$missing; the result lacks what needs them" >&2
