# shellcheck shell=bash
# What scripts say, and how they end.

readonly EXIT_SETUP=2

say() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
}

# Ends the script: something that it needs is not there.
die() {
    say "$*"
    exit "$EXIT_SETUP"
}
