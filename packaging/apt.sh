# What the scripts *-deps.sh share, which source it.
# shellcheck shell=sh

name=$(basename "$0" .sh)

# lacking prints the packages of those COMMAND:PACKAGE whose command is not there.
lacking() {
	for pair in "$@"; do
		command -v "${pair%%:*}" >/dev/null 2>&1 || printf ' %s' "${pair#*:}"
	done
}

# can_install reports whether packages can be installed without a question.
can_install() { command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" -eq 0 ]; }

# apt_update learns what packages there are.
apt_update() {
	apt-get update -qq || echo "$name: apt-get update failed; trying with what is known" >&2
}

# apt_install installs packages, as root on a Debian-like system. Where that cannot
# be it says what is missing, and fails.
apt_install() {
	[ $# -gt 0 ] || return 0
	if ! can_install; then
		echo "$name: not root on a Debian-like system; install by hand: $*" >&2
		return 1
	fi
	echo "$name: installing $*" >&2
	apt_update
	if ! DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null; then
		echo "$name: could not install: $*" >&2
		return 1
	fi
}
