# shellcheck shell=bash
# What the installation steps share: the cache directory, messages, locks, free disk. Sourced, never run.
#
# Every step is safe to interrupt and to run twice at once: it holds a lock of its own, builds in a temporary place and
# moves the result (or writes a mark of completion) last.

set -euo pipefail

PILOTLIGHT_REPOSITORY=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
: "${PILOTLIGHT_CACHE:=${HOME:?HOME is not set; set it, or PILOTLIGHT_CACHE}/.cache/pilotlight}"
export PILOTLIGHT_REPOSITORY PILOTLIGHT_CACHE

say() { printf '  %s\n' "$*" >&2; }

# fail WHAT CURE...: one line for what is wrong, one for each thing to do.
fail() {
    printf 'error: %s\n' "$1" >&2
    shift
    (($# == 0)) || printf '  -> %s\n' "$@" >&2
    exit 1
}

# lock NAME: from here to the end of the script nobody else runs the step of this name.
lock() {
    mkdir -p "$PILOTLIGHT_CACHE/locks" ||
        fail "cannot create $PILOTLIGHT_CACHE/locks" "make it writable, or set PILOTLIGHT_CACHE to another directory"
    exec 9>"$PILOTLIGHT_CACHE/locks/$1"
    if ! flock --nonblock 9; then
        say "another process is installing '$1'; waiting for it"
        flock 9
    fi
}

# require_disk GIGABYTES WHAT: refuses to start what cannot fit.
require_disk() {
    local free
    mkdir -p "$PILOTLIGHT_CACHE"
    free=$(df --output=avail --block-size=1G "$PILOTLIGHT_CACHE" | tail -n 1 | tr -d ' ')
    ((free >= $1)) ||
        fail "$2 needs $1 GB free in $PILOTLIGHT_CACHE, there are $free GB" \
            "free some space, or set PILOTLIGHT_CACHE to a directory on another file system"
}

# debian: whether this system installs its packages with apt from Debian or a descendant.
debian() {
    command -v apt-get >/dev/null && command -v dpkg >/dev/null &&
        grep -qE '^ID(_LIKE)?=.*debian' /etc/os-release
}
