#!/usr/bin/env bash
# Makes a plain MIT realm: one user, and one service per encryption type, for the types that the
# Samba domain does not issue.
#
#   mit.sh LAB     writes LAB/mit: krb5.conf, kdc.conf, client.keytab, service.keytab, database
set -euo pipefail

readonly LAB=$1
readonly DIR=$LAB/mit
readonly REALM=MIT.EXAMPLE
readonly ENCTYPES=(
    aes128-sha1=aes128-cts-hmac-sha1-96
    aes256-sha1=aes256-cts-hmac-sha1-96
    aes128-sha2=aes128-cts-hmac-sha256-128
    aes256-sha2=aes256-cts-hmac-sha384-192
    rc4=arcfour-hmac
)

configure() {
    local all=${ENCTYPES[*]#*=}
    cat >"$DIR/krb5.conf" <<END
[libdefaults]
    default_realm = $REALM
    permitted_enctypes = $all
    allow_rc4 = true
    dns_lookup_kdc = false
    dns_lookup_realm = false
    dns_canonicalize_hostname = false
    rdns = false
    forwardable = true
[realms]
    $REALM = {
        kdc = 127.0.0.1:10088
    }
[domain_realm]
    .mit.example = $REALM
END
    cat >"$DIR/kdc.conf" <<END
[kdcdefaults]
    kdc_listen = 127.0.0.1:10088
    kdc_tcp_listen = 127.0.0.1:10088
[realms]
    $REALM = {
        database_name = $DIR/principal
        key_stash_file = $DIR/stash
        acl_file = $DIR/acl
        max_life = 24h
        max_renewable_life = 7d
        supported_enctypes = ${all// /:normal }:normal
    }
[logging]
    kdc = FILE:$LAB/logs/krb5kdc.requests.log
    default = FILE:$LAB/logs/krb5kdc.requests.log
END
}

main() {
    umask 077
    rm -rf "$DIR"
    mkdir -p "$DIR"
    : >"$DIR/acl"
    configure
    export KRB5_CONFIG=$DIR/krb5.conf KRB5_KDC_PROFILE=$DIR/kdc.conf

    kdb5_util create -r "$REALM" -s -P "$(openssl rand -hex 16)" >/dev/null 2>&1
    # Its commands have no quoting: file names are relative, whatever the directory is called.
    cd "$DIR"
    {
        echo "addprinc -randkey mituser"
        echo "ktadd -q -k client.keytab mituser"
        local pair name enctype
        for pair in "${ENCTYPES[@]}"; do
            name=HTTP/${pair%%=*}.mit.example
            enctype=${pair#*=}
            echo "addprinc -randkey -e $enctype:normal $name"
            echo "setstr $name session_enctypes $enctype"
            echo "ktadd -q -k service.keytab -norandkey $name"
        done
    } | kadmin.local -r "$REALM" >"$LAB/logs/kadmin.log" 2>&1
    if [ ! -s "$DIR/client.keytab" ] || [ ! -s "$DIR/service.keytab" ]; then
        tail -n 20 "$LAB/logs/kadmin.log" >&2
        return 1
    fi
}

main
