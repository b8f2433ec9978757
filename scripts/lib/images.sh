# shellcheck shell=bash
# Making container images with buildah, in a storage of their own that goes when the script ends. Needs messages.sh.

# use_own_storage PROGRAM...: sets $work, a temporary directory, and lets buildah keep everything in it.
use_own_storage() {
    local program
    for program in "$@"; do
        command -v "$program" >/dev/null || die "the program $program is missing. Debian, Ubuntu: apt-get install $program"
    done
    [[ $(id -u) == 0 ]] || die "has to run as root"
    work=$(mktemp -d "${TMPDIR:-/var/tmp}/rehydrator-${0##*/}.XXXXXX")
    trap remove_own_storage EXIT
}

buildah() {
    command buildah --root "$work/storage" --runroot "$work/run" "$@"
}

remove_own_storage() {
    if mountpoint --quiet "$work/storage/overlay"; then
        umount --recursive "$work/storage/overlay" # with what an interrupted build left mounted in it
    fi
    rm -rf "$work"
}

# commit CONTAINER LAYOUT: writes the image with all times set to 0, without what depends on buildah's version.
commit() {
    buildah commit --quiet --disable-compression=false --timestamp 0 --identity-label=false "$1" "oci:$2:latest" >/dev/null
}

# push NAME LAYOUT: copies an image from the storage to a layout, as its tag NAME, and prints its digest.
push() {
    buildah push --quiet --format oci --digestfile "$work/digest" "$1" "oci:$2:$1"
    cat "$work/digest"
    echo
}
