# shellcheck shell=bash
# The virtual environment in .venv: made once, kept up with pyproject.toml. Needs messages.sh and system.sh.

readonly VENV="$ROOT/.venv"

# Prints the first Python on PATH that is new enough; $PYTHON, if set, comes first.
find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.14 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    die "Python 3.11 or newer is needed, and there is none on PATH. Install one (Debian 12 and Ubuntu 24.04 have it" \
        "as python3, Ubuntu 22.04 as python3.11), or name it: PYTHON=/path/to/python3 $0"
}

# make_venv PYTHON: Debian and Ubuntu ship the parts that this needs in a package of their own.
make_venv() {
    local python=$1 package=${1##*/}-venv
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        if ! can_be_root || [[ $(package_manager) != apt-get ]]; then
            die "$python can't make virtual environments. Debian, Ubuntu: apt-get install $package"
        fi
        install_packages "$package"
    fi
    "$python" -m venv --clear "$VENV"
}

# Makes the system's bindings of libguestfs, which PyPI does not have, known to the environment. They serve one version
# of Python only; without them the tests that need them are skipped.
link_guestfs() {
    local files target
    files=$(/usr/bin/python3 -c 'import guestfs, libguestfsmod; print(guestfs.__file__, libguestfsmod.__file__)' \
        2>/dev/null) || return 0
    target=$("$PYTHON_BIN" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    # shellcheck disable=SC2086 # two paths without blanks
    ln -sf $files "$target"
}

# What the environment was made from; pip is called only when this changes.
venv_key() {
    printf '%s %s\n' "$ROOT" "$1"
    sha256sum <"$ROOT/pyproject.toml"
    "$VENV/bin/python" -VV
}

# venv_has EXTRAS: whether the environment was made for these extras, from pyproject.toml as it is now.
venv_has() {
    [[ -f $VENV/.rehydrator$1 ]] && venv_key "$1" | cmp -s - "$VENV/.rehydrator$1"
}

# require_venv EXTRAS: sets PYTHON_BIN to a Python that has rehydrator and the extras ("" or "[test]").
# $REHYDRATOR_PYTHON names one that has them already; then nothing is set up.
require_venv() {
    local extras=$1 python
    if [[ -n ${REHYDRATOR_PYTHON:-} ]]; then
        PYTHON_BIN=$REHYDRATOR_PYTHON
        return
    fi
    PYTHON_BIN="$VENV/bin/python"
    if ! "$PYTHON_BIN" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$(find_python)
        say "making .venv with $python"
        make_venv "$python"
    fi
    if ! { venv_has "$extras" || venv_has "[test]"; } || ! "$PYTHON_BIN" -c 'import rehydrator.cli' 2>/dev/null; then
        say "installing rehydrator$extras into .venv"
        "$PYTHON_BIN" -m pip install --quiet --disable-pip-version-check --editable "$ROOT$extras" >&2
        venv_key "$extras" >"$VENV/.rehydrator$extras"
    fi
    # Where Python may not write bytecode by itself, each start would compile everything once more.
    "$PYTHON_BIN" -m compileall -q "$ROOT/rehydrator" >&2
    [[ -z $extras ]] || link_guestfs
}
