#!/usr/bin/env bash
# A lab of one's own: a real Active Directory domain (Samba), a Negotiate-only web server (Apache
# with mod_auth_gssapi, also where CRLs are fetched), an OCSP responder, a plain MIT realm and three MIT
# realms with trusts, in a network namespace that touches nothing outside.
#
#   integration/lab.sh up             start it (the first time: make the domain; a minute)
#   integration/lab.sh run -- CMD…    run a command inside, with the variables of lab.env set
#   integration/lab.sh status         what is running
#   integration/lab.sh down           stop exactly what `up` started
#   integration/lab.sh clean          down, and remove the lab's directory
#
# KCD_LAB names the lab's directory (default: target/lab in the repository). Labs with different
# directories do not know of each other.
# Exit status: 0 good, 1 something failed, 2 usage, 3 the machine lacks something.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly HERE
KCD_LAB=$(realpath -m "${KCD_LAB:-$HERE/../target/lab}")
export KCD_LAB
readonly STATE=$KCD_LAB/state
readonly LOGS=$KCD_LAB/logs
readonly REALM=CORP.EXAMPLE
readonly START_DEADLINE=120

say() { printf 'lab: %s\n' "$*"; }
fail() {
    printf 'lab: %s\n' "$@" >&2
    exit 1
}
lacking() {
    printf 'lab: %s\n' "$@" >&2
    exit 3
}

# --- what the machine must have --------------------------------------------------------------

# Root is needed for namespaces: everything but `status` goes through sudo for anybody else.
become_root() {
    [ "$(id -u)" != 0 ] || return 0
    command -v sudo >/dev/null ||
        lacking "root is needed for network and mount namespaces, and there is no sudo: run this as root"
    local keep=("KCD_LAB=$KCD_LAB" "PATH=$PATH" "HOME=$HOME") name
    while read -r name; do
        keep+=("$name=${!name}")
    done < <(compgen -e | grep -E '^(KCD_|CARGO_|RUST|TERM$|LANG$|LC_)' | grep -vx KCD_LAB || true)
    exec sudo env "${keep[@]}" "$HERE/lab.sh" "$@"
}

check_machine() {
    local need=() pair
    for pair in samba=samba-ad-dc samba-tool=samba-ad-dc ldbsearch=ldb-tools apache2=apache2 \
        krb5kdc=krb5-kdc kdb5_util=krb5-kdc kadmin.local=krb5-admin-server kinit=krb5-user \
        gcc=gcc openssl=openssl curl=curl ip=iproute2 unshare=util-linux setsid=util-linux flock=util-linux \
        faketime=faketime; do
        command -v "${pair%%=*}" >/dev/null || need+=("${pair#*=}")
    done
    [ -e /usr/lib/apache2/modules/mod_auth_gssapi.so ] || need+=(libapache2-mod-auth-gssapi)
    /usr/bin/python3 -c "import cryptography" 2>/dev/null || need+=(python3-cryptography)
    /usr/bin/python3 -c 'import samba.samdb' 2>/dev/null || need+=(python3-samba)
    [ -d /usr/share/samba/setup ] || need+=(samba-ad-provision)
    [ -e /usr/include/kdb.h ] || need+=(libkrb5-dev)
    [ ${#need[@]} = 0 ] ||
        lacking "missing: $(printf '%s\n' "${need[@]}" | sort -u | paste -sd " ")" "run integration/install.sh first"
}

# --- processes: what is recorded is what is stopped ------------------------------------------

# start_time PID: distinguishes a process from a later one with the same number; empty for one that
# has ended, even if nobody has collected it yet
start_time() { sed -E 's/^.*\) //; /^[ZX]/d' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20 || true; }

record() { printf '%s %s %s\n' "$1" "$2" "$(start_time "$2")" >>"$STATE/processes"; }

alive() { # PID START-TIME
    [ -n "$2" ] && [ "$(start_time "$1")" = "$2" ]
}

# spawn NAME COMMAND...: in the namespace, in a session of its own, its output in logs/NAME.log
spawn() {
    local name=$1
    shift
    setsid ip netns exec "$(netns)" "$@" </dev/null >"$LOGS/$name.log" 2>&1 9>&- &
    record "$name" $!
}

netns() { cat "$STATE/netns"; }

inside() { ip netns exec "$(netns)" "$@" 9>&-; }

# wait_for NAME WHAT COMMAND...: until the command succeeds, its daemon dies or time is up
wait_for() {
    local name=$1 what=$2 pid started deadline
    shift 2
    read -r pid started < <(awk -v n="$name" '$1 == n { print $2, $3 }' "$STATE/processes")
    deadline=$((SECONDS + START_DEADLINE))
    until "$@" >/dev/null 2>&1; do
        alive "$pid" "$started" || {
            tail -n 20 "$LOGS/$name.log" >&2
            fail "$name ended while it should have started; its log: $LOGS/$name.log"
        }
        [ $SECONDS -lt $deadline ] || {
            tail -n 20 "$LOGS/$name.log" >&2
            fail "$name: $what not ready after $START_DEADLINE s; its log: $LOGS/$name.log"
        }
        sleep 0.1
    done
}

accepts() { inside timeout 2 bash -c "exec 3<>/dev/tcp/$1/$2"; }

# --- the domain ------------------------------------------------------------------------------

with_samba_mounts() { unshare -m --propagation private "$HERE/lab/samba-mounts.sh" "$@"; }

# The stamp of everything the cached domain and certificates were made from.
stamp() {
    {
        cat "$HERE/lab.sh" "$HERE"/lab/{samdb,domain,defects,altsec,mappings}.py "$HERE"/lab/pki.sh
        samba --version
    } | sha256sum | cut -d ' ' -f 1
}

cache_fresh() {
    [ "$(cat "$KCD_LAB/cache/stamp" 2>/dev/null)" = "$(stamp)" ] || return 1
    # Certificates and CRLs live for weeks: made anew long before they run out.
    [ -z "$(find "$KCD_LAB/cache/stamp" -mtime +6)" ]
}

# domain_script SCRIPT DIRECTORY: one of lab/*.py on the new domain
domain_script() {
    with_samba_mounts "$KCD_LAB/cache/dc" /usr/bin/python3 -B "$HERE/lab/$1" \
        /var/lib/samba/dc/etc/smb.conf "$2" >"$LOGS/${1%.py}.log" 2>&1 || {
        tail -n 20 "$LOGS/${1%.py}.log" >&2
        fail "filling the domain failed; the whole log: $LOGS/${1%.py}.log"
    }
}

provision() {
    local cache=$KCD_LAB/cache
    rm -rf "$cache"
    mkdir -p "$cache/dc"
    say "provisioning the domain $REALM"
    openssl rand -base64 24 >"$cache/admin.password"
    with_samba_mounts "$cache/dc" samba-tool domain provision --targetdir=/var/lib/samba/dc \
        --realm="$REALM" --domain=CORP --server-role=dc --dns-backend=SAMBA_INTERNAL \
        --adminpass="Aa1!$(cat "$cache/admin.password")" --host-name=dc1 --host-ip=127.0.0.1 \
        --function-level=2016 --base-schema=2019 \
        --option="ad dc functional level = 2016" \
        --option="interfaces=lo" --option="bind interfaces only=yes" \
        >"$LOGS/provision.log" 2>&1 || {
        tail -n 20 "$LOGS/provision.log" >&2
        fail "provisioning failed; the whole log: $LOGS/provision.log"
    }
    sed -i "/^\[global\]/a\\
\\tad dc functional level = 2016\\
\\tserver services = rpc, ldap, cldap, kdc, dns\\
\\ttls enabled = yes\\
\\ttls keyfile = tls/dc1.key\\
\\ttls certfile = tls/dc1.pem\\
\\ttls cafile = tls/ldap-ca.pem" "$cache/dc/etc/smb.conf"

    say "adding accounts and keytabs"
    mkdir "$cache/dc/out"
    domain_script domain.py /var/lib/samba/dc/out
    mv "$cache/dc/out"/* "$cache/"

    say "making certificates"
    "$HERE/lab/pki.sh" "$cache"
    mkdir -p "$cache/dc/private/tls"
    cp "$cache/pki/dc1.key" "$cache/pki/dc1.pem" "$cache/pki/ldap-ca.pem" "$cache/dc/private/tls/"

    say "publishing certificates and lists in the directory"
    cp -a "$cache/pki" "$cache/sids.tsv" "$cache/dc/out/"
    domain_script mappings.py /var/lib/samba/dc/out
    mv "$cache/dc/out/altsec.tsv" "$cache/"
    rm -rf "$cache/dc/out"
    stamp >"$cache/stamp"
}

# The running lab works on a copy: whatever it does to the domain, the next one begins the same.
unpack() {
    local item
    for item in dc pki keytabs users.tsv sids.tsv altsec.tsv admin.password svc-ldap.password; do
        rm -rf "${KCD_LAB:?}/$item"
        cp -a --reflink=auto "$KCD_LAB/cache/$item" "$KCD_LAB/$item"
    done
}

write_krb5_conf() {
    cat >"$KCD_LAB/krb5.conf" <<END
[libdefaults]
    default_realm = $REALM
    dns_lookup_kdc = false
    dns_lookup_realm = false
    dns_canonicalize_hostname = false
    rdns = false
    forwardable = true
    permitted_enctypes = aes256-cts-hmac-sha1-96 aes128-cts-hmac-sha1-96 aes256-cts-hmac-sha384-192 aes128-cts-hmac-sha256-128 arcfour-hmac
    allow_rc4 = true
[realms]
    $REALM = {
        kdc = 127.0.0.1
    }
    MIT.EXAMPLE = {
        kdc = 127.0.0.1:10088
    }
[domain_realm]
    .corp.example = $REALM
    corp.example = $REALM
    .mit.example = MIT.EXAMPLE
END
}

# --- the web server --------------------------------------------------------------------------

prepare_apache() {
    local dir=$KCD_LAB/apache
    rm -rf "$dir"
    mkdir -p "$dir/run" "$dir/logs" "$dir/www" "$dir/pki" "$dir/rcache"
    cp "$HERE/lab/apache.conf" "$dir/httpd.conf"
    cp "$KCD_LAB"/keytabs/{mbx1,mbx2003,unset,rolled}.keytab "$dir/"
    echo 'Microsoft-Server-ActiveSync (lab)' >"$dir/www/activesync.txt"
    echo ok >"$dir/www/fast.txt"
    local crl
    for crl in "$KCD_LAB"/pki/*.crl; do
        openssl crl -in "$crl" -outform DER -out "$dir/pki/${crl##*/}"
    done
    chmod 755 "$dir" "$dir/www" "$dir/pki"
    chmod 644 "$dir/pki"/*
    chmod 644 "$dir"/www/*
    chown -R www-data: "$dir/rcache" "$dir"/*.keytab
}

start_apache() {
    # shellcheck disable=SC2016
    KRB5RCACHENAME=file2:/srv/rcache/replay KRB5_CONFIG=/srv/krb5.conf \
        spawn apache unshare -m --propagation private bash -c '
            mount --bind "$1" /srv && exec apache2 -f /srv/httpd.conf -DFOREGROUND
        ' apache "$KCD_LAB/apache"
}

# --- realms with trusts ----------------------------------------------------------------------

start_realms() {
    local dir=$KCD_LAB/realms realm
    local -l name
    rm -rf "$dir"
    mkdir -p "$dir"
    gcc -std=gnu11 -Wall -Wextra -Werror -O1 -fPIC -shared -o "$dir/textkdb.so" \
        "$HERE/lab/kdb/textkdb.c" -lkdb5 -lkrb5
    /usr/bin/python3 -B "$HERE/lab/realms.py" "$KCD_LAB"
    while read -r realm _; do
        name=${realm%%.*}
        KRB5_CONFIG=$dir/krb5.conf KRB5_KDC_PROFILE=$dir/$name/kdc.conf \
            spawn "krb5kdc-$name" env LD_PRELOAD="$dir/textkdb.so" krb5kdc -n -r "$realm"
    done <"$dir/kdcs.tsv"
}

await_realms() {
    local realm host port
    local -l name
    while read -r realm host port; do
        name=${realm%%.*}
        wait_for "krb5kdc-$name" "port $port" accepts "$host" "$port"
    done <"$KCD_LAB/realms/kdcs.tsv"
}

# --- up, down, run, status -------------------------------------------------------------------

make_netns() {
    local name=kcdlab-$$ try error
    for try in '' a b c d; do
        # It makes /run/netns, the whole machine's, if this is the first.
        if error=$(umask 022 && ip netns add "$name$try" 2>&1); then
            printf '%s\n' "$name$try" >"$STATE/netns"
            chmod 644 "$STATE/netns"
            break
        fi
        [[ $error == *"File exists"* ]] ||
            lacking "no network namespace can be made here: $error" \
                "in a container, it takes the capability SYS_ADMIN (docker run --privileged)"
    done
    [ -s "$STATE/netns" ] || fail "no free name for a network namespace: $error"
    name=$(netns)
    mkdir -p "/etc/netns/$name"
    cat >"/etc/netns/$name/hosts" <<END
127.0.0.1 localhost
127.0.0.1 dc1.corp.example dc1
127.0.0.1 bridge.corp.example bridge plain.corp.example
127.0.0.11 mbx1.corp.example mbx1
127.0.0.12 mbx2003.corp.example mbx2003
127.0.0.13 notlisted.corp.example notlisted
127.0.0.14 pki.corp.example ocsp.corp.example
127.0.0.15 unset.corp.example unset
127.0.0.16 rolled.corp.example rolled
END
    printf 'nameserver 127.0.0.1\nsearch corp.example\n' >"/etc/netns/$name/resolv.conf"
    chmod 755 /etc/netns "/etc/netns/$name"
    chmod 644 "/etc/netns/$name"/*
    error=$(inside unshare -m true 2>&1) ||
        lacking "no mount namespace can be made here: $error" \
            "in a container, it takes the capability SYS_ADMIN (docker run --privileged)"
    inside ip link set lo up
}

write_env() {
    sid_of() { awk -F '\t' -v n="$1" '$1 == n { print $2 }' "$KCD_LAB/sids.tsv"; }
    {
        printf 'KCD_LAB=%q\n' "$KCD_LAB"
        printf 'KCD_NETNS=%s\n' "$(netns)"
        printf 'KCD_REALM=%s\n' "$REALM"
        printf 'KCD_KDC=127.0.0.1\n'
        printf 'KCD_PRINCIPAL=svc-bridge@%s\n' "$REALM"
        printf 'KCD_DC_SID=%s\n' "$(sid_of 'DC1$')"
        printf 'KCD_MBX_URL=http://mbx1.corp.example\n'
        printf 'KCD_LEGACY_URL=http://mbx2003.corp.example\n'
        printf 'KCD_PLAIN_URL=http://127.0.0.1:8081\n'
        printf 'KCD_MIT_REALM=MIT.EXAMPLE\n'
        printf 'KCD_MIT_KDC=127.0.0.1:10088\n'
        printf 'KCD_LDAP_HOST=dc1.corp.example\n'
        printf 'KCD_LDAP_URL=ldaps://dc1.corp.example\n'
        printf 'KCD_LDAP_STARTTLS_URL=ldap://dc1.corp.example\n'
        printf 'KCD_LDAP_DOMAIN=corp.example\n'
        printf 'KCD_LDAP_BASE=DC=corp,DC=example\n'
        printf 'KCD_LDAP_CA=%q\n' "$KCD_LAB/pki/ldap-ca.pem"
        printf 'KCD_LDAP_USER=svc-ldap@corp.example\n'
        printf 'KCD_LDAP_PASSWORD_FILE=%q\n' "$KCD_LAB/svc-ldap.password"
        printf 'KCD_PKI_URL=http://pki.corp.example\n'
        printf 'KCD_OCSP_URL=http://ocsp.corp.example:8888\n'
    } >"$KCD_LAB/lab.env"
}

is_up() {
    [ -s "$STATE/netns" ] && [ -s "$STATE/processes" ] && [ -e "$STATE/ready" ] || return 1
    [ -e "/run/netns/$(netns)" ] || return 1
    local name pid started
    while read -r name pid started; do
        alive "$pid" "$started" || return 1
    done <"$STATE/processes"
}

up() {
    check_machine
    # Keys and databases are root's alone; what is running may be seen by anybody.
    mkdir -p "$KCD_LAB"
    umask 077
    mkdir -p "$LOGS"
    exec 9>"$KCD_LAB/lock"
    flock 9
    if is_up; then
        say "is up already: namespace $(netns), directory $KCD_LAB"
        return
    fi
    stop
    mkdir -m 0755 "$STATE"
    trap '[ -e "$STATE/ready" ] || stop' EXIT
    trap 'exit 130' INT TERM HUP

    make_netns
    cache_fresh || provision
    unpack
    write_krb5_conf
    say "starting Samba, Apache and MIT KDCs in the namespace $(netns)"
    spawn samba unshare -m --propagation private "$HERE/lab/samba-mounts.sh" "$KCD_LAB/dc" \
        samba -i -M single --configfile=/var/lib/samba/dc/etc/smb.conf
    prepare_apache
    cp "$KCD_LAB/krb5.conf" "$KCD_LAB/apache/krb5.conf"
    chmod 644 "$KCD_LAB/apache/krb5.conf"
    start_apache
    spawn ocsp /usr/bin/python3 -B "$HERE/lab/ocsp.py" "$KCD_LAB" 8888
    "$HERE/lab/mit.sh" "$KCD_LAB"
    KRB5_CONFIG=$KCD_LAB/mit/krb5.conf KRB5_KDC_PROFILE=$KCD_LAB/mit/kdc.conf spawn krb5kdc krb5kdc -n

    start_realms

    local ccache=MEMORY:ready
    wait_for apache "port 80" accepts 127.0.0.11 80
    wait_for krb5kdc "a ticket for mituser" inside env KRB5_CONFIG="$KCD_LAB/mit/krb5.conf" \
        timeout 5 kinit -c $ccache -k -t "$KCD_LAB/mit/client.keytab" mituser
    await_realms
    wait_for samba "port 88" accepts 127.0.0.1 88
    wait_for samba "a ticket for svc-bridge" inside env KRB5_CONFIG="$KCD_LAB/krb5.conf" \
        timeout 5 kinit -c $ccache -k -t "$KCD_LAB/keytabs/bridge.keytab" "svc-bridge@$REALM"
    local port
    for port in 389 636 3268 3269; do
        wait_for samba "port $port" accepts 127.0.0.1 "$port"
    done
    wait_for ocsp "port 8888" accepts 127.0.0.14 8888
    write_env
    : >"$STATE/ready"
    chmod 644 "$STATE"/*
    say "up: directory $KCD_LAB"
}

# Ends what is recorded, and only that: a number that now belongs to another process is left alone.
stop_processes() {
    [ -s "$STATE/processes" ] || return 0
    local name pid started deadline
    while read -r name pid started; do
        ! alive "$pid" "$started" || kill -TERM "$pid" 2>/dev/null || true
    done <"$STATE/processes"
    deadline=$((SECONDS + 5))
    while read -r name pid started; do
        while alive "$pid" "$started" && [ $SECONDS -lt $deadline ]; do sleep 0.05; done
        ! alive "$pid" "$started" || kill -KILL "$pid" 2>/dev/null || true
    done <"$STATE/processes"
}

# Workers a killed daemon left behind are in the namespace that nobody else uses.
stop_leftovers() {
    local pid signal
    for signal in TERM KILL; do
        for pid in $(ip netns pids "$1" 2>/dev/null); do
            kill -"$signal" "$pid" 2>/dev/null || true
        done
        local deadline=$((SECONDS + 3))
        while [ -n "$(ip netns pids "$1" 2>/dev/null)" ] && [ $SECONDS -lt $deadline ]; do
            sleep 0.05
        done
    done
}

stop() {
    stop_processes
    if [ -s "$STATE/netns" ]; then
        local name
        name=$(netns)
        if [ -e "/run/netns/$name" ]; then
            stop_leftovers "$name"
            ip netns del "$name" || true
        fi
        rm -rf "/etc/netns/$name"
        rmdir /etc/netns 2>/dev/null || true
    fi
    rm -rf "$STATE" "$KCD_LAB/lab.env"
}

down() {
    if [ ! -d "$STATE" ]; then
        say "is not up"
        return
    fi
    exec 9>"$KCD_LAB/lock"
    flock 9
    stop
    say "down"
}

run() {
    [ "${1:-}" != -- ] || shift
    [ $# -gt 0 ] || usage
    is_up || fail "is not up: run integration/lab.sh up first"
    set -a
    # shellcheck disable=SC1091
    . "$KCD_LAB/lab.env"
    set +a
    KRB5_CONFIG=$KCD_LAB/krb5.conf exec ip netns exec "$KCD_NETNS" "$@"
}

status() {
    if ! is_up; then
        say "is not up (directory $KCD_LAB)"
        [ ! -s "$STATE/processes" ] || say "but something of it is left: run integration/lab.sh down"
        return 1
    fi
    say "is up: namespace $(netns), directory $KCD_LAB"
    local name pid started
    while read -r name pid started; do
        printf '  %-10s pid %s\n' "$name" "$pid"
    done <"$STATE/processes"
}

usage() {
    printf 'usage: %s up | down | run -- COMMAND… | status | clean\n' "$0" >&2
    exit 2
}

case ${1:-} in
    up | down | run | clean)
        # While we still are who we are: a build directory must not become root's.
        mkdir -p "$(dirname "$KCD_LAB")"
        become_root "$@"
        PATH=$PATH:/usr/sbin:/sbin
        ;;
esac
case ${1:-} in
    up) up ;;
    down) down ;;
    run) shift && run "$@" ;;
    clean)
        down
        rm -rf "${KCD_LAB:?}"
        ;;
    status) status ;;
    *) usage ;;
esac
