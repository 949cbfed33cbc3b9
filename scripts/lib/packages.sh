# shellcheck shell=bash
# Installs Debian packages, and only those that are missing.
#
# The components of the tests are Debian packages. Installing one must not start the system's own instance of it, since
# the tests run private ones: while packages are installed, a policy-rc.d says so, unless the machine has one already.

# need PACKAGE... : makes sure that the packages are installed.
need() {
    local missing=() package
    for package in "$@"; do
        package_installed "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] || install_packages "${missing[@]}"
}

# need_commands COMMAND... : the same for programs that are called as their packages are. One that comes from elsewhere will do.
need_commands() {
    local missing=() command
    for command in "$@"; do
        command -v "$command" >/dev/null || missing+=("$command")
    done
    [ ${#missing[@]} -eq 0 ] || need "${missing[@]}"
}

package_installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

install_packages() {
    if [ "$(id -u)" -ne 0 ]; then
        echo "error: these packages are missing and only root can install them. As root, run:" >&2
        echo "  apt-get update && apt-get install --no-install-recommends $*" >&2
        return 1
    fi
    echo "installing Debian packages: $*" >&2
    # A subshell, so that the lock and the policy go away however this ends. The lock keeps a second installer from
    # losing the policy of the first; it lies where only root can write.
    (
        exec 8>/run/sexton-packages.lock
        flock 8
        local log policy=/usr/sbin/policy-rc.d made_policy=
        log=$(mktemp)
        trap 'rm -f "$log"; [ -z "$made_policy" ] || rm -f "$policy"' EXIT
        trap 'exit 130' INT
        trap 'exit 143' TERM
        if [ ! -e "$policy" ]; then
            made_policy=yes
            printf '#!/bin/sh\n# While test components are installed, no service is started.\nexit 101\n' >"$policy"
            chmod 755 "$policy"
        fi
        export DEBIAN_FRONTEND=noninteractive
        if apt_get update >"$log" 2>&1 8>&- && apt_install "$log" "$@" 8>&-; then
            exit 0
        fi
        echo "error: apt-get could not install: $*" >&2
        tail -n 20 "$log" >&2
        exit 1
    )
}

# --no-remove: where packages conflict, `apt-get install -y` would settle it by removing what the machine's owner has
# installed. A test suite must never do that; it fails instead.
apt_get() {
    apt-get -o DPkg::Lock::Timeout=300 --no-remove "$@"
}

# Where a package of the same family came from the backports (qemu-utils, say), the release's own version of the others
# conflicts with it ("Breaks"): apt-get would have to remove it, which it may not. Then they are taken from there, too.
apt_install() {
    local log=$1
    shift
    apt_get install -y --no-install-recommends "$@" >>"$log" 2>&1 && return 0
    came_from_backports "$log" || return 1
    echo "packages of this family came from the backports: taking the others from there, too" >&2
    install_from_backports "$@" >>"$log" 2>&1
}

# Whether apt-get gave up over a conflict, on a machine that has packages with the version mark of the backports.
came_from_backports() {
    # Read to the end: with `grep -q` the pipe would break at the first hit, and fail (pipefail).
    grep -qE 'Breaks:|Packages need to be removed' "$1" && dpkg-query -W -f '${Version}\n' | grep '~bpo' >/dev/null
}

# Uses a private list with the machine's own Debian lines and, beside each, the same archive's backports. The machine's
# configuration stays as it is.
install_from_backports() (
    set -e
    local private codename
    private=$(mktemp -d)
    chmod 755 "$private" # apt reads as a user of its own
    trap 'rm -rf "$private"' EXIT
    codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
    mkdir -p "$private/parts" "$private/lists/partial"
    own_sources "$codename" >"$private/sources.list"
    cat >"$private/apt.conf" <<CONF
Dir::Etc::sourcelist "$private/sources.list";
Dir::Etc::sourceparts "$private/parts";
Dir::State::lists "$private/lists";
CONF
    export APT_CONFIG="$private/apt.conf"
    apt_get update
    apt_get install -y --no-install-recommends -t "$codename-backports" "$@"
)

# own_sources CODENAME : the machine's lines for this release, in the one-line format, each followed by its backports.
# `apt-get indextargets` knows both formats of source files and what a proxy or mirror made of them.
own_sources() {
    local site release component key option
    # shellcheck disable=SC2016 # these are apt's variables
    apt-get indextargets --format '$(SITE)|$(RELEASE)|$(COMPONENT)|$(SIGNED_BY)' 'Created-By: Packages' | sort -u |
        while IFS='|' read -r site release component key; do
            [ "$release" = "$1" ] || continue
            option=
            case $key in /*) option="[signed-by=$key] " ;; esac
            echo "deb $option$site $1 $component"
            echo "deb $option$site $1-backports $component"
        done
}
