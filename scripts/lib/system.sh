# shellcheck shell=bash
# System packages: installed only when something is missing. Needs messages.sh.

readonly PACKAGE_LIST="$ROOT/scripts/lib/packages.txt"

PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" # an ordinary login may lack them

can_be_root() {
    [[ $(id -u) == 0 ]] || command -v sudo >/dev/null
}

as_root() {
    if [[ $(id -u) == 0 ]]; then
        "$@"
    else
        sudo "$@"
    fi
}

# Prints the package manager of this system; fails where it is neither of the known ones.
package_manager() {
    if command -v apt-get >/dev/null; then
        echo apt-get
    elif command -v dnf >/dev/null; then # untested
        echo dnf
    else
        return 1
    fi
}

# install_packages NAME...: names as this system's package manager knows them.
install_packages() {
    say "installing $*"
    if [[ $(package_manager) == apt-get ]]; then
        local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0)
        as_root "${apt[@]}" update >&2
        as_root "${apt[@]}" install --yes --no-install-recommends "$@" >&2
    else
        as_root dnf install --assumeyes "$@" >&2
    fi
}

# have PROGRAM: whether it is there, or the file at this path; python:NAME is a module of the system's own Python.
have() {
    if [[ $1 == python:* ]]; then
        /usr/bin/python3 -c "import ${1#python:}" 2>/dev/null
    elif [[ $1 == /* ]]; then
        [[ -f $1 ]]
    else
        command -v "$1" >/dev/null
    fi
}

# Prints the lines of the package list whose program is not there.
missing_programs() {
    local program debian fedora
    while read -r program debian fedora; do
        [[ -z $program || $program == \#* ]] && continue
        have "$program" || printf '%s %s %s\n' "$program" "$debian" "$fedora"
    done <"$PACKAGE_LIST"
}

# Installs what is missing of the package list; ends the script where that can't be done.
require_programs() {
    local missing debian fedora
    missing=$(missing_programs)
    [[ -z $missing ]] && return
    debian=$(cut -d' ' -f2 <<<"$missing" | sort -u | paste -sd' ')
    fedora=$(cut -d' ' -f3 <<<"$missing" | sort -u | paste -sd' ')
    if ! can_be_root || ! package_manager >/dev/null; then
        say "missing programs: $(cut -d' ' -f1 <<<"$missing" | paste -sd' ')"
        say "  Debian, Ubuntu: apt-get install $debian"
        die "  Fedora (untested): dnf install $fedora"
    fi
    local names
    read -ra names <<<"$(if [[ $(package_manager) == apt-get ]]; then echo "$debian"; else echo "$fedora"; fi)"
    install_packages "${names[@]}"
    missing=$(missing_programs)
    [[ -z $missing ]] || die "still missing after the installation: $(cut -d' ' -f1 <<<"$missing" | paste -sd' ')"
}

# supermin, which makes the appliance of libguestfs, wants this directory even where it is given a kernel; a system
# without a kernel of its own, such as a container, lacks it.
require_modules_directory() {
    local directory=/lib/modules
    [[ -d $directory ]] && return
    can_be_root || die "the directory $directory is missing. As root: mkdir $directory"
    as_root mkdir "$directory"
}
