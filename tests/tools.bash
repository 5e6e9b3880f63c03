# Sourced by tests/run, tests/bench and examples/demo: what they need, and how a
# fresh Debian 12 or 13 gets it.

say() {
    printf '\n== %s\n' "$*"
}

fail() {
    echo "${0##*/}: $*" >&2
    exit 1
}

# Root, by sudo where there is one. The toolchain may live in the caller's home
# only, so the search path goes along; cargo's own files are root's then, so
# that the caller finds nothing there that is not theirs.
as_root() {
    [[ $EUID -eq 0 ]] && return
    command -v sudo >/dev/null || fail "this needs root: run it as root (there is no sudo here)"
    echo "${0##*/}: machines need root, going on by sudo"
    exec sudo --preserve-env=WHARF_TEST_FULL \
        env PATH="$PATH" RUSTUP_HOME="${RUSTUP_HOME:-$HOME/.rustup}" "$BASH" "$0" "$@"
}

# apt-get, saying so; with fresh lists only if the old ones do not do.
install_packages() {
    echo "${0##*/}: installing missing Debian packages: $*"
    export DEBIAN_FRONTEND=noninteractive
    apt-get install --yes --quiet --no-install-recommends "$@" >/dev/null 2>&1 || {
        apt-get update --quiet >/dev/null
        apt-get install --yes --quiet --no-install-recommends "$@" >/dev/null
    }
}

# need PROGRAM PACKAGE [PROGRAM PACKAGE]...
need() {
    local missing=()
    while (($#)); do
        command -v "$1" >/dev/null || [[ -x /sbin/$1 || -x /usr/sbin/$1 ]] || missing+=("$2")
        shift 2
    done
    ((${#missing[@]} == 0)) || install_packages "${missing[@]}"
}

need_machines() {
    need mmdebstrap mmdebstrap systemd-nspawn systemd-container unshare util-linux curl curl
    [[ -e /usr/share/keyrings/debian-archive-keyring.gpg ]] || install_packages debian-archive-keyring
}

# Other people's image tools, whose results the store's tests compare with.
need_image_tools() {
    need skopeo skopeo umoci umoci buildah buildah podman podman zstd zstd xz xz-utils
    need gpg gpg gpg-agent gpg-agent gpgconf gpgconf
    need docker-registry docker-registry openssl openssl
}

# A disk that forgets, and what it is formatted with.
need_cut_tools() {
    need nbdkit nbdkit nbdfuse libnbd-bin mkfs.ext4 e2fsprogs mkfs.xfs xfsprogs mkfs.btrfs btrfs-progs strace strace
}

# Who reads manual pages and completions.
need_manual_tools() {
    need mandoc mandoc groff groff-base zsh zsh fish fish python3 python3
    python3 -c 'import jsonschema' 2>/dev/null || install_packages python3-jsonschema
}

# Who understands what is measured.
need_metrics_tools() {
    /usr/bin/python3 -c 'import prometheus_client' 2>/dev/null || install_packages python3 python3-prometheus-client
}

# Ansible, and what looks at playbooks and collections.
need_ansible_tools() {
    need ansible-playbook ansible-core ansible-lint ansible-lint git git python3 python3
    /usr/bin/python3 -c 'import pytest, hypothesis' 2>/dev/null || install_packages python3-pytest python3-hypothesis
}

# What builds packages, and judges them.
need_packaging_tools() {
    need dpkg-buildpackage dpkg-dev dh debhelper dh_apparmor dh-apparmor lintian lintian rpmbuild rpm xz xz-utils
}

# Namespaces with a network of their own.
need_net_tools() {
    need ip iproute2 nft nftables
}

need_full_machines() {
    need qemu-system-x86_64 qemu-system-x86 nbdkit nbdkit ssh openssh-client mke2fs e2fsprogs
}

# The compiler: the first cargo that is at least as new as Cargo.toml asks for. Debian
# keeps one for its browsers, newer than the release's own, in packages of their own.
need_cargo() {
    local wanted have
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    if have=$(cargo --version 2>/dev/null | cut -d' ' -f2) && [[ -n $have ]] &&
        [[ $(printf '%s\n' "$wanted" "$have" | sort -V | head -n 1) == "$wanted" ]]; then
        :
    else
        echo "${0##*/}: cargo $wanted or later is needed, here is ${have:-none}"
        install_packages cargo-web rustc-web
    fi
    local packages=()
    command -v cc >/dev/null || packages+=(gcc libc6-dev)
    command -v pkg-config >/dev/null || packages+=(pkg-config)
    [[ -e /usr/include/seccomp.h ]] || packages+=(libseccomp-dev)
    ((${#packages[@]} == 0)) || install_packages "${packages[@]}"
}

# The front of the throwaway machine, from the profile that was built.
machine() {
    "$machine" "$@"
}
