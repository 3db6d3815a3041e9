#!/usr/bin/env bash
# Installs the Debian packages that building and testing kcd-bridge need.
#
#   integration/install.sh            what the build and the lab need
#   integration/install.sh bench      the same, and what the benchmarks need
#   integration/install.sh --list     only say which packages are missing
#
# Nothing is started: daemons stay down while their packages are installed, and those that
# were not there before stay disabled. Fast, and silent but for one line, when nothing is missing.
# Exit status: 0 everything is there, 2 usage, 3 something could not be installed.
set -euo pipefail

readonly BUILD=(gcc g++ libc6-dev make pkg-config libkrb5-dev libclang-dev)
readonly LAB=(krb5-user krb5-kdc krb5-admin-server apache2 libapache2-mod-auth-gssapi
    openssl python3-cryptography curl iproute2 strace faketime util-linux procps)
# Resource-based delegation needs a newer Samba than the one in Debian 12 proper.
readonly LAB_BACKPORTS=(samba-ad-dc samba-ad-provision samba-dsdb-modules samba-vfs-modules
    winbind ldb-tools python3-samba)
readonly BENCH=(nginx-light)
# What Debian would start at boot once its package is there.
readonly DAEMONS=(samba-ad-dc smbd nmbd winbind apache2 apache-htcacheclean krb5-kdc
    krb5-admin-server nginx)
readonly SOURCES=/etc/apt/sources.list.d/kcd-bridge-backports
readonly POLICY=/usr/sbin/policy-rc.d

say() { printf 'install: %s\n' "$*"; }
die() {
    printf 'install: %s\n' "$@" >&2
    exit 3
}

installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null || true)" = installed ]
}

# missing PACKAGE...: those of them that are not installed, one per line
missing() {
    local package
    for package in "$@"; do
        installed "$package" || printf '%s\n' "$package"
    done
}

codename() {
    (
        # shellcheck disable=SC1091
        . /etc/os-release 2>/dev/null || true
        printf '%s' "${VERSION_CODENAME:-unknown}"
    )
}

check_debian() {
    command -v apt-get >/dev/null ||
        die "this is not a Debian system (no apt-get): install these by hand: ${wanted[*]}"
    [ "$suite" = bookworm ] ||
        say "warning: made for Debian 12 (bookworm), this is \"$suite\": package names may differ"
}

check_rust() {
    command -v cargo >/dev/null ||
        die "no Rust toolchain: cargo is not in PATH; install it from https://rustup.rs"
}

# The first stanza of a deb822 file that carries the release itself, its suite replaced.
backports_from_deb822() {
    awk -v suite="$suite" '
        function flush(   i, ok) {
            for (i = 1; i <= n; i++) if (line[i] ~ /^[Ss]uites:/) {
                ok = (" " substr(line[i], 8) " ") ~ ("[ \t]" suite "/?[ \t]")
                line[i] = "Suites: " suite "-backports"
            }
            if (ok && binary && enabled && !done) {
                for (i = 1; i <= n; i++) print line[i]
                done = 1
            }
            n = 0; binary = 0; enabled = 1
        }
        BEGIN { enabled = 1 }
        /^[ \t]*$/ { flush(); next }
        /^#/ { next }
        /^[Tt]ypes:/ { binary = / deb( |$)/; $0 = "Types: deb" }
        /^[Ee]nabled:[ \t]*(no|false|0)/ { enabled = 0 }
        { line[++n] = $0 }
        END { flush() }
    ' "$1"
}

# The same for the one-line format: deb [options] URI suite component...
backports_from_list() {
    awk -v suite="$suite" '
        $1 == "deb" {
            at = 2
            if ($at ~ /^\[/) { while (at < NF && $at !~ /\]$/) at++; at++ }
            if ($(at + 1) == suite || $(at + 1) == suite "/") {
                $(at + 1) = suite "-backports"
                print
                exit
            }
        }
    ' "$1"
}

has_backports() {
    grep -Eqs "^[^#]*[[:space:]]${suite}-backports/?([[:space:]]|$)" \
        /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources
}

add_backports() {
    local file found
    for file in /etc/apt/sources.list.d/*.sources; do
        [ -r "$file" ] || continue
        found=$(backports_from_deb822 "$file")
        if [ -n "$found" ]; then
            say "adding $SOURCES.sources: $suite-backports from the mirror that $file names"
            printf '%s\n' "$found" | $sudo tee "$SOURCES.sources" >/dev/null
            return
        fi
    done
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [ -r "$file" ] || continue
        found=$(backports_from_list "$file")
        if [ -n "$found" ]; then
            say "adding $SOURCES.list: $suite-backports from the mirror that $file names"
            printf '%s\n' "$found" | $sudo tee "$SOURCES.list" >/dev/null
            return
        fi
    done
    die "no apt source for \"$suite\" found to derive a mirror from: add a source for $suite-backports and run this again"
}

apt() {
    $sudo env DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l apt-get -q -y \
        -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold -o DPkg::Lock::Timeout=300 "$@"
}

# hold_daemons / release_daemons: forbid package scripts to start anything, then undo exactly that.
hold_daemons() {
    guard=1
    # One that a killed run left behind is ours to replace; the machine's own is kept aside.
    if [ -e "$POLICY" ] && ! grep -qs kcd-bridge "$POLICY" && [ ! -e "$POLICY.kcd-saved" ]; then
        $sudo mv "$POLICY" "$POLICY.kcd-saved"
    fi
    printf '#!/bin/sh\n# kcd-bridge: nothing starts while its packages are installed\nexit 101\n' |
        $sudo tee "$POLICY" >/dev/null
    $sudo chmod 755 "$POLICY"
}

release_daemons() {
    [ "$guard" = 1 ] || return 0
    guard=0
    $sudo rm -f "$POLICY"
    [ ! -e "$POLICY.kcd-saved" ] || $sudo mv "$POLICY.kcd-saved" "$POLICY"
}

known_daemons() {
    local daemon
    for daemon in "${DAEMONS[@]}"; do
        if [ -e "/lib/systemd/system/$daemon.service" ] || [ -e "/etc/init.d/$daemon" ]; then
            printf '%s\n' "$daemon"
        fi
    done
}

# The daemons that came with this installation do not come up at the next boot either.
disable_new_daemons() {
    local daemon
    for daemon in $(known_daemons); do
        case " $daemons_before " in *" $daemon "*) continue ;; esac
        if command -v systemctl >/dev/null; then
            $sudo systemctl disable --quiet "$daemon.service" >/dev/null 2>&1 || true
        elif command -v update-rc.d >/dev/null; then
            $sudo update-rc.d "$daemon" disable >/dev/null 2>&1 || true
        fi
    done
}

# apt_install LABEL [OPTION...] -- PACKAGE...
apt_install() {
    local log options=()
    while [ "$1" != -- ]; do
        options+=("$1")
        shift
    done
    shift
    log=$(mktemp)
    if ! apt install --no-install-recommends "${options[@]}" "$@" >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        local left
        left=$(missing "$@" | tr '\n' ' ')
        die "apt-get could not install: ${left:-$*}" \
            "the lines above are its own words; try: apt-get install ${options[*]} ${left:-$*}"
    fi
    rm -f "$log"
}

main() {
    local bench=0 list=0 argument
    for argument in "$@"; do
        case $argument in
            bench) bench=1 ;;
            --list) list=1 ;;
            *)
                printf 'usage: %s [--list] [bench]\n' "$0" >&2
                exit 2
                ;;
        esac
    done

    suite=$(codename)
    local plain=("${BUILD[@]}" "${LAB[@]}")
    [ "$bench" = 0 ] || plain+=("${BENCH[@]}")
    wanted=("${plain[@]}" "${LAB_BACKPORTS[@]}")
    check_debian

    local need need_backports
    mapfile -t need < <(missing "${plain[@]}")
    mapfile -t need_backports < <(missing "${LAB_BACKPORTS[@]}")
    if [ "$list" = 1 ]; then
        printf '%s\n' "${need[@]}" "${need_backports[@]/%/ ($suite-backports)}" | sed '/^$/d; /^ (/d'
        return
    fi
    check_rust
    if [ $((${#need[@]} + ${#need_backports[@]})) = 0 ]; then
        say "all ${#wanted[@]} packages are there"
        return
    fi

    say "these Debian packages are missing and will be installed now:"
    [ ${#need[@]} = 0 ] || say "  from $suite: ${need[*]}"
    [ ${#need_backports[@]} = 0 ] || say "  from $suite-backports: ${need_backports[*]}"
    say "(no daemon is started or enabled)"
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null ||
            die "root is needed to install them, and there is no sudo here: run this as root"
        sudo=sudo
    fi

    daemons_before=$(known_daemons | tr '\n' ' ')
    trap release_daemons EXIT
    trap 'exit 130' INT TERM HUP
    hold_daemons

    if [ ${#need_backports[@]} != 0 ] && ! has_backports; then
        add_backports
    fi
    # A foreign source that is down must not stop us as long as what we need can be had.
    say "apt-get update"
    apt update >/dev/null || say "warning: apt-get update reported errors (above); going on with what is known"
    [ ${#need[@]} = 0 ] || {
        say "installing from $suite"
        apt_install -- "${need[@]}"
    }
    [ ${#need_backports[@]} = 0 ] || {
        say "installing from $suite-backports"
        apt_install -t "$suite-backports" -- "${need_backports[@]}"
    }
    disable_new_daemons
    say "done"
}

sudo=
guard=0
main "$@"
