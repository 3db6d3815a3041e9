#!/usr/bin/env bash
# Makes the lab's certificates with the openssl command: a device CA in the manner of AD CS and issuing
# CAs below it, one client certificate per user, the variants the tests need, and the servers' own.
#
#   pki.sh LAB     reads LAB/users.tsv and LAB/sids.tsv, writes LAB/pki; LAB/pki/ca/NAME is the
#                  database of a CA, for the OCSP responder and for revocation.py
set -euo pipefail

readonly LAB=$1
readonly PKI=$LAB/pki
readonly WORK=$PKI/work
readonly CAS=$PKI/ca
readonly DAYS=365
readonly CRLS=http://pki.corp.example
readonly CDP='CN=CDP,CN=Public%20Key%20Services,CN=Services,CN=Configuration,DC=corp,DC=example'
readonly TEMPLATE_ID=1.3.6.1.4.1.311.21.8.1.2.3.4.5

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

# ca_database NAME: what openssl ca needs
ca_database() {
    local db=$CAS/$1
    mkdir -p "$db"
    : >"$db/index.txt"
    echo 'unique_subject = no' >"$db/index.txt.attr"
    echo 01 >"$db/crlnumber"
    cat >"$db/ca.cnf" <<END
[ca]
default_ca = this
[this]
database = $db/index.txt
serial = $db/serial
crlnumber = $db/crlnumber
new_certs_dir = $db
certificate = $PKI/$1.pem
private_key = $PKI/$1.key
default_md = sha256
default_days = $DAYS
default_crl_days = 30
policy = anything
unique_subject = no
string_mask = utf8only
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
}

# new_ca NAME SUBJECT: a self-signed CA with its own database
new_ca() {
    ca_database "$1"
    openssl req -config "$CAS/$1/ca.cnf" -extensions self -x509 -new -key "$PKI/$1.key" \
        -subj "$2" -days 3650 -out "$PKI/$1.pem"
}

# issuing_ca NAME SUBJECT PARENT VERSION: a CA below another
issuing_ca() {
    ca_database "$1"
    issue "$3" "$1" "$2" "basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign, digitalSignature
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
crlDistributionPoints = URI:$CRLS/$3.crl
1.3.6.1.4.1.311.21.1 = ASN1:INTEGER:$4" -days 1825
}

# issue CA NAME SUBJECT EXTENSIONS [openssl ca option...]: the key is there already; with SERIAL, that one
issue() {
    local ca=$1 name=$2 subject=$3 extensions=$4
    shift 4
    local serial=(-rand_serial)
    if [ -n "${SERIAL:-}" ]; then
        echo "$SERIAL" >"$CAS/$ca/serial"
        serial=()
    fi
    printf '%s\n' "$extensions" >"$WORK/$name.ext"
    openssl req -new -utf8 -key "$PKI/$name.key" -subj "$subject" -config "$CAS/$ca/ca.cnf" \
        -out "$WORK/$name.csr"
    if ! openssl ca -batch -notext -utf8 -preserveDN "${serial[@]}" -config "$CAS/$ca/ca.cnf" \
        -in "$WORK/$name.csr" -extfile "$WORK/$name.ext" -out "$PKI/$name.pem" "$@" 2>"$WORK/$name.log"; then
        cat "$WORK/$name.log" >&2
        return 1
    fi
}

# points_of CA: where its revocations are found, for its certificates
points_of() {
    case $1 in
        issuing-ca*) printf 'crlDistributionPoints = cdp\nauthorityInfoAccess = @aia\n' ;;
        *)
            echo "crlDistributionPoints = URI:$CRLS/$1.crl"
            echo "authorityInfoAccess = caIssuers;URI:$CRLS/$1.crt"
            ;;
    esac
}

# cdp_of CA: the name of its object in the directory; a renewed key has one of its own, as with AD CS
cdp_of() {
    case $1 in
        issuing-ca) echo 'Corp Issuing CA' ;;
        issuing-ca-renewed) echo 'Corp Issuing CA(1)' ;;
    esac
}

point_sections() {
    local object
    object=$(cdp_of "$1")
    [ -n "$object" ] || return 0
    cat <<END
[cdp]
fullname = @cdp_names
[cdp_names]
URI.0 = ldap:///CN=${object// /%20},CN=dc1,$CDP?certificateRevocationList?base?objectClass=cRLDistributionPoint
URI.1 = $CRLS/$1.crl
[aia]
caIssuers;URI.0 = $CRLS/$1.crt
END
    # The responder answers for the first key only.
    [ "$1" != issuing-ca ] || echo 'OCSP;URI.0 = http://ocsp.corp.example:8888'
}

# device_extensions UPN SID PLACE CA: PLACE of the SID is extension, uri or none; no UPN, if it is empty.
# EKU, TEMPLATE, POLICY and SAN (further names, a line each) say what is not as usual.
device_extensions() {
    local upn=$1 sid=$2 place=$3 ca=$4
    local names=${SAN:-}
    [ -z "$upn" ] || names="otherName.0 = \"1.3.6.1.4.1.311.20.2.3;FORMAT:UTF8,UTF8:$upn\"
$names"
    [ "$place" != uri ] || names="$names
URI.0 = tag:microsoft.com,2022-09-14:sid:$sid"
    cat <<END
extendedKeyUsage = ${EKU:-clientAuth}
keyUsage = critical, digitalSignature
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
$(points_of "$ca")
1.3.6.1.4.1.311.21.7 = ASN1:SEQUENCE:template
END
    [ -z "$names" ] || echo 'subjectAltName = @san'
    [ -z "${POLICY:-}" ] || echo "certificatePolicies = $POLICY"
    [ "$place" != extension ] || echo "1.3.6.1.4.1.311.25.2 = ASN1:SEQUENCE:sid"
    cat <<END
[template]
id = OID:${TEMPLATE:-$TEMPLATE_ID}
major = INTEGER:100
minor = INTEGER:4
[san]
$names
[sid]
name = IMPLICIT:0,SEQUENCE:sid_name
[sid_name]
type = OID:1.3.6.1.4.1.311.25.2.1
value = EXPLICIT:0,OCTETSTRING:$sid
$(point_sections "$ca")
END
}

# device NAME CN UPN SID PLACE CA [KEY [openssl ca option...]]
device() {
    local name=$1 cn=$2 upn=$3 sid=$4 place=$5 ca=$6 key=${7:-ec}
    shift 6
    [ $# = 0 ] || shift
    new_key "$name" "$key"
    issue "$ca" "$name" "${SUBJECT:-/DC=example/DC=corp/CN=$cn}" \
        "$(device_extensions "$upn" "$sid" "$place" "$ca")" "$@"
}

# with_chain NAME CA: the same certificate once more, with the CA that a device sends along
with_chain() {
    cat "$PKI/$1.pem" "$PKI/$2.pem" >"$PKI/$1-chain.pem"
    cp -p "$PKI/$1.key" "$PKI/$1-chain.key"
}

# server NAME HOST [CA]
server() {
    new_key "$1"
    issue "${3:-server-ca}" "$1" "/CN=$2" "extendedKeyUsage = serverAuth
keyUsage = critical, digitalSignature
subjectAltName = DNS:$2
authorityKeyIdentifier = keyid
subjectKeyIdentifier = hash"
}

# --- the certificates ----------------------------------------------------------------------

# What device-ca gives alice besides her usual certificate, and what only looks like hers.
variants() {
    local upn sid
    upn=$(upn_of alice)
    sid=$(sid_of alice)
    device alice-expired alice "$upn" "$sid" extension device-ca ec \
        -startdate "$(utc '-30 days')" -enddate "$(utc '-1 day')"
    device alice-not-yet alice "$upn" "$sid" extension device-ca ec \
        -startdate "$(utc '+10 days')" -enddate "$(utc '+30 days')"
    device alice-renewed alice "$upn" "$sid" extension device-ca
    device alice-expiring alice "$upn" "$sid" extension device-ca ec -enddate "$(utc '+10 days')"
    device alice-revoked alice "$upn" "$sid" extension device-ca
    device alice-rsa alice "$upn" "$sid" extension device-ca rsa
    device alice-wrong-sid alice "$upn" "$(sid_of bob)" extension device-ca
    device alice-no-sid alice "$upn" '' none device-ca
    device alice-uri-sid alice "$upn" "$sid" uri device-ca
    device alice-foreign alice "$upn" "$sid" extension foreign-ca
    device alice-cn "$upn" '' '' none device-ca
    EKU=msSmartcardLogin device alice-smartcard alice "$upn" "$sid" extension device-ca
    TEMPLATE=1.3.6.1.4.1.311.21.8.6.7.8.9 device alice-other-template alice "$upn" "$sid" extension device-ca
    POLICY=1.3.6.1.4.1.32473.1.1 device alice-policy alice "$upn" "$sid" extension device-ca
    # Asked for without its dollar sign, this name gets a ticket for the domain controller itself.
    device dollar dc1 dc1@corp.example "$(account_sid 'DC1$')" extension device-ca
    device trail-spaced trail 'trail@corp.example ' '' none device-ca
}

# What only the directory maps to somebody (mappings.py), and e-mail addresses and host names. The
# issuing CA's name needs quotes in Windows' notation, and so does one subject.
mapped() {
    local name
    for name in asi-sr asi-sr-forward asi-ski asi-sha1 asi-sha1-key asi-sha1-spki asi-s asi-i twin usercert; do
        device "$name" "$name" '' '' none issuing-ca
    done
    # Its first octet makes the encoding begin with another, 00.
    SERIAL=C3000000000000000000000000A1B2 device asi-sr00 asi-sr00 '' '' none issuing-ca
    device asi-sid asi-sid '' "$(account_sid asi-sid)" extension issuing-ca
    SUBJECT='/DC=example/DC=corp/O=Corp, "Devices"/OU= lead/CN=asi is+UID=u1/emailAddress=asi@corp.example' \
        device asi-is '' '' '' none issuing-ca
    SAN='email.0 = asi-rfc822@corp.example' device asi-rfc822 asi-rfc822 '' '' none issuing-ca
    SAN='email.0 = mail1@corp.example' device mail1 mail1 '' '' none issuing-ca
    SAN='email.0 = shared@corp.example' device mailtwin mailtwin '' '' none issuing-ca
    SAN='DNS.0 = pc1.corp.example' device pc1 pc1 '' '' none issuing-ca
}

# Accounts of the realms with trusts, with the SIDs that realms.py gives them; nobody1 to 4 stand for
# those that rows of a static table name.
of_realms() {
    local east=S-1-5-21-1001-1002-1003 west=S-1-5-21-2001-2002-2003 south=S-1-5-21-3001-3002-3003 name
    device east-alice alice alice@alias.example $east-1201 extension device-ca
    device west-wendy wendy wendy@brand.example $west-1302 extension device-ca
    device south-susan susan susan@south.example $south-1401 extension device-ca
    # The UPN of one alice, the SID of the other.
    device two-alices alice alice@west.example $east-1201 extension device-ca
    for name in nobody{1..4}; do
        device "$name" "$name" '' '' none device-ca
    done
}

# Alice's from the issuing CAs; throwaway1 to 8 are for tests that revoke.
issued() {
    local upn sid name
    upn=$(upn_of alice)
    sid=$(sid_of alice)
    for name in alice-issued throwaway{1..8}; do
        device "$name" alice "$upn" "$sid" extension issuing-ca
    done
    device alice-reissued alice "$upn" "$sid" extension issuing-ca-renewed
    device alice-revoked-ca alice "$upn" "$sid" extension revoked-ca
    with_chain alice-issued issuing-ca
    with_chain alice-reissued issuing-ca-renewed
    with_chain alice-revoked-ca revoked-ca

    # Directly below the CA that it answers for (RFC 6960 section 4.2.2.2).
    new_key ocsp
    issue issuing-ca ocsp '/CN=Corp OCSP Responder' 'extendedKeyUsage = OCSPSigning
keyUsage = critical, digitalSignature
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
noCheck = yes'
}

revoke() { openssl ca -config "$CAS/$1/ca.cnf" -revoke "$PKI/$2.pem" -crl_reason "$3" 2>/dev/null; }

# list CA FILE [openssl ca option...]
list() {
    local ca=$1 file=$2
    shift 2
    openssl ca -config "$CAS/$ca/ca.cnf" -gencrl -out "$PKI/$file.crl" "$@" 2>/dev/null
}

main() {
    umask 077
    export LC_ALL=C.UTF-8
    rm -rf "$PKI"
    mkdir -p "$WORK" "$CAS"

    new_ca device-ca '/DC=example/DC=corp/CN=Corp Device CA'
    new_ca foreign-ca '/DC=test/DC=elsewhere/CN=Elsewhere Device CA'
    new_ca server-ca '/CN=Corp Server CA'
    new_ca ldap-ca '/CN=Corp Domain Controller CA'
    issuing_ca issuing-ca '/DC=example/DC=corp/O=Corp, Inc./CN=Corp Issuing CA' device-ca 0
    # The same CA, its key renewed: one name, two keys, two lists.
    issuing_ca issuing-ca-renewed '/DC=example/DC=corp/O=Corp, Inc./CN=Corp Issuing CA' device-ca 65537
    issuing_ca revoked-ca '/DC=example/DC=corp/CN=Corp Lost CA' device-ca 0

    server server bridge.corp.example
    server dc1 dc1.corp.example ldap-ca
    server mbx1-tls mbx1.corp.example

    local name upn sid
    while IFS=$'\t' read -r name upn sid; do
        device "$name" "${upn%@*}" "$upn" "$sid" extension device-ca
    done <"$LAB/users.tsv"
    variants
    mapped
    of_realms
    issued

    # An old list, from before the revocation: acting on it would let alice-revoked in.
    list device-ca expired -crl_lastupdate "$(utc '-9 days')" -crl_nextupdate "$(utc '-2 days')"
    revoke device-ca alice-revoked keyCompromise
    revoke device-ca revoked-ca CACompromise
    for name in device-ca foreign-ca issuing-ca issuing-ca-renewed revoked-ca; do
        list "$name" "$name"
    done
    # Their paths would be wrong where the certificates are going to be used.
    rm -rf "$WORK" "$CAS"/*/ca.cnf "$CAS"/*/*.pem "$CAS"/*/*.old
}

main
