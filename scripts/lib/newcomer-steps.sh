#!/usr/bin/env bash
# The steps of scripts/newcomer on a new system, which has /srv/rehydrator.git and nothing else of this repository.
#
#   steps.sh publish TESTS    from the clone to the registry, which goes on running
#   steps.sh read             from the registry to a file
set -euo pipefail

readonly PUBLISHED=/srv/published
readonly OCI=/srv/oci
readonly SOME_TESTS=(tests/test_dehydrate.py tests/test_qcow2.py tests/test_registry.py tests/test_scripts.py)

# step WORDS...: tells what comes, and what time it is.
step() {
    printf '%(%H:%M:%S)T  %s\n' -1 "$*"
}

# same FILE SHA256
same() {
    [[ $(sha256sum <"$1") == "$2  -" ]] || { echo "$1 is not what the release has"; exit 1; }
}

# Makes $disk, $sha256 and $platform of the release's disk that all of this is about.
choose_disk() {
    platform=openstack
    sha256=$(python3 -c '
import json, sys
artifact = json.load(open("fixtures/release/stream.json"))["architectures"]["x86_64"]["artifacts"][sys.argv[1]]
print(artifact["formats"]["qcow2.xz"]["disk"]["uncompressed-sha256"])' "$platform")
}

clone() {
    step "git clone"
    git clone --quiet /srv/rehydrator.git ~/rehydrator
    cd ~/rehydrator
}

# Runs the image's program as an engine does, without network, privileges and a place to write to.
run_container() {
    local storage=(--root "$OCI/storage" --runroot "$OCI/run") container
    container=$(buildah "${storage[@]}" from --quiet "oci:$OCI/image:latest")
    unshare --net buildah "${storage[@]}" run --isolation chroot --user 1000:1000 --cap-drop all "$container" -- \
        rehydrator "$@"
    buildah "${storage[@]}" rm "$container" >/dev/null
}

start_registry() {
    local port
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    mkdir -p /srv/registry
    cat >/srv/registry.yml <<END
version: 0.1
storage: {filesystem: {rootdirectory: /srv/registry}}
http: {addr: "127.0.0.1:$port"}
END
    docker-registry serve /srv/registry.yml >/srv/registry.log 2>&1 &
    registry=localhost:$port
    for _ in {1..100}; do
        ! (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null || return 0
        sleep 0.2
    done
    echo "the registry does not start: $(tail -n 3 /srv/registry.log)"
    exit 1
}

publish() {
    clone
    step "scripts/demo, with what it installs"
    scripts/demo --keep /srv/demo
    choose_disk
    case $1 in
        all)
            step "scripts/test, with what it installs"
            scripts/test
            ;;
        some)
            step "scripts/test ${SOME_TESTS[*]}, with what it installs"
            scripts/test "${SOME_TESTS[@]}"
            ;;
        none)
            step "apt-get install"
            apt-get -qq -o Dpkg::Use-Pty=0 install --yes --no-install-recommends \
                buildah debootstrap docker-registry skopeo >/srv/apt.log
            ;;
    esac
    step "scripts/make-base"
    scripts/make-base "$OCI/base"
    step "scripts/build-container"
    scripts/build-container "$OCI/runtime" --base "oci:$OCI/base"
    step "rehydrator build image"
    # shellcheck source=/dev/null # made by scripts/demo
    source .venv/bin/activate
    rehydrator build image /srv/demo/store "oci:$OCI/image" --base "oci:$OCI/runtime:runtime"
    step "rehydrator rehydrate - --disk $platform, in the container"
    run_container rehydrate - --disk "$platform" >/srv/from-container
    same /srv/from-container "$sha256"
    step "rehydrator push, and skopeo copy of the image"
    start_registry
    rehydrator push /srv/demo/store "$registry/coreos/store:44" --plain-http
    skopeo copy --quiet --dest-tls-verify=false "oci:$OCI/image:latest" "docker://$registry/coreos/images:44"
    echo "$registry" >"$PUBLISHED"
}

read_back() {
    registry=$(cat "$PUBLISHED")
    clone
    step "pip install"
    apt-get -qq update >/srv/apt.log
    apt-get -qq -o Dpkg::Use-Pty=0 install --yes --no-install-recommends python3-venv >>/srv/apt.log 2>&1
    python3 -m venv ~/venv
    ~/venv/bin/pip install --quiet --disable-pip-version-check .
    choose_disk
    PATH=~/venv/bin:$PATH
    [[ ! -e ~/.cache/rehydrator ]]
    step "rehydrator rehydrate images --disk $platform --store $registry/coreos/store:44"
    rehydrator rehydrate ~/images --disk "$platform" --store "$registry/coreos/store:44" --plain-http
    same ~/images/*-"$platform".*.qcow2 "$sha256"
    echo "the cache has $(du --summarize --bytes ~/.cache/rehydrator | cut -f 1) bytes"
    step "rehydrator verify --store $registry/coreos/store:44"
    rehydrator verify --store "$registry/coreos/store:44" --plain-http
}

case $1 in
    publish) publish "$2" ;;
    read) read_back ;;
esac
