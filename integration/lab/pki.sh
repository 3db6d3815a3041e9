#!/usr/bin/env bash
# Makes the lab's certificates with the openssl command: a device CA in the manner of AD CS, one
# client certificate per user, the broken variants the tests need, and the bridge's own certificate.
#
#   pki.sh LAB     reads LAB/users.tsv and LAB/sids.tsv, writes LAB/pki
set -euo pipefail

readonly LAB=$1
readonly PKI=$LAB/pki
readonly WORK=$PKI/work
readonly DAYS=365

# --- helpers -------------------------------------------------------------------------------

column() { awk -F '\t' -v key="$2" -v n="$3" '$1 == key { print $n; exit }' "$LAB/$1"; }
upn_of() { column users.tsv "$1" 2; }
sid_of() { column users.tsv "$1" 3; }
account_sid() { column sids.tsv "$1" 2; }

# utc OFFSET: a time as openssl ca wants it
utc() { date -u -d "$1" +%y%m%d%H%M%SZ; }

# new_key NAME [rsa]
new_key() {
    if [ "${2:-ec}" = rsa ]; then
        openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$PKI/$1.key"
    else
        openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$PKI/$1.key"
    fi 2>/dev/null
    chmod 600 "$PKI/$1.key"
}

# new_ca NAME SUBJECT: a self-signed CA with its own database
new_ca() {
    local db=$WORK/$1
    mkdir -p "$db"
    : >"$db/index.txt"
    echo 'unique_subject = no' >"$db/index.txt.attr"
    echo 01 >"$db/crlnumber"
    cat >"$db/ca.cnf" <<END
[ca]
default_ca = this
[this]
database = $db/index.txt
crlnumber = $db/crlnumber
new_certs_dir = $db
certificate = $PKI/$1.pem
private_key = $PKI/$1.key
rand_serial = yes
default_md = sha256
default_days = $DAYS
default_crl_days = 30
policy = anything
unique_subject = no
string_mask = utf8only
email_in_dn = no
crl_extensions = crl
[anything]
domainComponent = optional
commonName = supplied
[crl]
authorityKeyIdentifier = keyid
1.3.6.1.4.1.311.21.1 = ASN1:INTEGER:0
1.3.6.1.4.1.311.21.4 = ASN1:UTCTIME:$(utc '+28 days')
[req]
distinguished_name = dn
prompt = no
utf8 = yes
[dn]
[self]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign, digitalSignature
subjectKeyIdentifier = hash
1.3.6.1.4.1.311.21.1 = ASN1:INTEGER:0
END
    new_key "$1"
    openssl req -config "$db/ca.cnf" -extensions self -x509 -new -key "$PKI/$1.key" \
        -subj "$2" -days 3650 -out "$PKI/$1.pem"
}

# issue CA NAME SUBJECT EXTENSIONS [openssl ca option...]: the key is there already
issue() {
    local ca=$1 name=$2 subject=$3 extensions=$4
    shift 4
    printf '%s\n' "$extensions" >"$WORK/$name.ext"
    openssl req -new -utf8 -key "$PKI/$name.key" -subj "$subject" -config "$WORK/$ca/ca.cnf" \
        -out "$WORK/$name.csr"
    if ! openssl ca -batch -notext -utf8 -config "$WORK/$ca/ca.cnf" -in "$WORK/$name.csr" \
        -extfile "$WORK/$name.ext" -out "$PKI/$name.pem" "$@" 2>"$WORK/$name.log"; then
        cat "$WORK/$name.log" >&2
        return 1
    fi
}

# device_extensions UPN SID PLACE: PLACE of the SID is extension, uri or none
device_extensions() {
    local upn=$1 sid=$2 place=$3
    cat <<END
extendedKeyUsage = clientAuth
keyUsage = critical, digitalSignature
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = @san
crlDistributionPoints = URI:http://pki.corp.example/device-ca.crl
authorityInfoAccess = caIssuers;URI:http://pki.corp.example/device-ca.crt
1.3.6.1.4.1.311.21.7 = ASN1:SEQUENCE:template
END
    [ "$place" != extension ] || echo "1.3.6.1.4.1.311.25.2 = ASN1:SEQUENCE:sid"
    cat <<END
[template]
id = OID:1.3.6.1.4.1.311.21.8.1.2.3.4.5
major = INTEGER:100
minor = INTEGER:4
[san]
otherName.0 = 1.3.6.1.4.1.311.20.2.3;FORMAT:UTF8,UTF8:$upn
END
    case $place in
        uri) echo "URI.0 = tag:microsoft.com,2022-09-14:sid:$sid" ;;
        extension)
            cat <<END
[sid]
name = IMPLICIT:0,SEQUENCE:sid_name
[sid_name]
type = OID:1.3.6.1.4.1.311.25.2.1
value = EXPLICIT:0,OCTETSTRING:$sid
END
            ;;
    esac
}

# device NAME CN UPN SID PLACE CA [KEY [openssl ca option...]]
device() {
    local name=$1 cn=$2 upn=$3 sid=$4 place=$5 ca=$6 key=${7:-ec}
    shift 6
    [ $# = 0 ] || shift
    new_key "$name" "$key"
    issue "$ca" "$name" "/DC=example/DC=corp/CN=$cn" \
        "$(device_extensions "$upn" "$sid" "$place")" "$@"
}

# server NAME HOST
server() {
    new_key "$1"
    issue server-ca "$1" "/CN=$2" "extendedKeyUsage = serverAuth
keyUsage = critical, digitalSignature
subjectAltName = DNS:$2
authorityKeyIdentifier = keyid
subjectKeyIdentifier = hash"
}

# --- the certificates ----------------------------------------------------------------------

main() {
    umask 077
    export LC_ALL=C.UTF-8
    rm -rf "$PKI"
    mkdir -p "$WORK"

    new_ca device-ca '/DC=example/DC=corp/CN=Corp Device CA'
    new_ca foreign-ca '/DC=test/DC=elsewhere/CN=Elsewhere Device CA'
    new_ca server-ca '/CN=Corp Server CA'

    server server bridge.corp.example
    server dc1 dc1.corp.example
    server mbx1-tls mbx1.corp.example

    local name upn sid
    while IFS=$'\t' read -r name upn sid; do
        device "$name" "${upn%@*}" "$upn" "$sid" extension device-ca
    done <"$LAB/users.tsv"

    upn=$(upn_of alice)
    sid=$(sid_of alice)
    device alice-expired alice "$upn" "$sid" extension device-ca ec \
        -startdate "$(utc '-30 days')" -enddate "$(utc '-1 day')"
    device alice-not-yet alice "$upn" "$sid" extension device-ca ec \
        -startdate "$(utc '+10 days')" -enddate "$(utc '+30 days')"
    device alice-revoked alice "$upn" "$sid" extension device-ca
    device alice-rsa alice "$upn" "$sid" extension device-ca rsa
    device alice-wrong-sid alice "$upn" "$(sid_of bob)" extension device-ca
    device alice-no-sid alice "$upn" '' none device-ca
    device alice-uri-sid alice "$upn" "$sid" uri device-ca
    device alice-foreign alice "$upn" "$sid" extension foreign-ca
    # Asked for without its dollar sign, this name gets a ticket for the domain controller itself.
    device dollar dc1 dc1@corp.example "$(account_sid 'DC1$')" extension device-ca

    local ca=(openssl ca -config "$WORK/device-ca/ca.cnf")
    # An old list, from before the revocation: acting on it would let alice-revoked in.
    "${ca[@]}" -gencrl -out "$PKI/expired.crl" \
        -crl_lastupdate "$(utc '-9 days')" -crl_nextupdate "$(utc '-2 days')" 2>/dev/null
    "${ca[@]}" -revoke "$PKI/alice-revoked.pem" -crl_reason keyCompromise 2>/dev/null
    "${ca[@]}" -gencrl -out "$PKI/device-ca.crl" 2>/dev/null
    openssl ca -config "$WORK/foreign-ca/ca.cnf" -gencrl -out "$PKI/foreign-ca.crl" 2>/dev/null
    rm -rf "$WORK"
}

main
