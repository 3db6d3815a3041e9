"""altSecurityIdentities of a certificate, as Windows' tools write them; made here independently of the bridge, to check it.

Names are those of CertNameToStr with CERT_X500_NAME_STR and CERT_NAME_STR_NO_PLUS_FLAG: in the certificate's own order, `,`
between RDNs, one space inside of one, quotes instead of backslashes. The serial number is reversed by octets.
"""

import hashlib

from cryptography import x509
from cryptography.hazmat.primitives import serialization

KEYS = {
    "2.5.4.3": "CN",
    "2.5.4.4": "SN",
    "2.5.4.5": "SERIALNUMBER",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "S",
    "2.5.4.9": "STREET",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "2.5.4.12": "T",
    "2.5.4.42": "G",
    "2.5.4.43": "I",
    "1.2.840.113549.1.9.1": "E",
    "0.9.2342.19200300.100.1.25": "DC",
}
SPECIAL = set(',+="\n<>#;')


def load(path):
    with open(path, "rb") as file:
        return x509.load_pem_x509_certificate(file.read())


def der(certificate):
    return certificate.public_bytes(serialization.Encoding.DER)


def quoted(value):
    if not value or value != value.strip(" ") or SPECIAL & set(value):
        return '"' + value.replace('"', '""') + '"'
    return value


def elements(data):
    """Tag and contents of each DER element."""
    at = 0
    while at < len(data):
        tag, length = data[at], data[at + 1]
        at += 2
        if length & 0x80:
            octets = length & 0x7F
            length = int.from_bytes(data[at : at + octets], "big")
            at += octets
        yield tag, data[at : at + length]
        at += length


def contents(data):
    return [value for _, value in elements(data)]


def dotted(identifier):
    arcs, arc = [], 0
    for octet in identifier:
        arc = arc << 7 | octet & 0x7F
        if not octet & 0x80:
            arcs.append(arc)
            arc = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, [first, arcs[0] - 40 * first, *arcs[1:]]))


def name(distinguished):
    """Of the contents of a Name. Read here: the library keeps an RDN's attributes in no order."""

    def attribute(part):
        (_, kind), (tag, value) = elements(part)
        assert tag in (0x0C, 0x13, 0x16), "UTF8String, PrintableString, IA5String"
        key = dotted(kind)
        return f"{KEYS.get(key, f'OID.{key}')}={quoted(value.decode())}"

    return ",".join(" ".join(map(attribute, contents(rdn))) for rdn in contents(distinguished))


def issuer_name(certificate):
    return name(contents(contents(certificate.tbs_certificate_bytes)[0])[3])


def subject_name(certificate):
    return name(contents(contents(certificate.tbs_certificate_bytes)[0])[5])


def serial(certificate, sign_octet):
    """Hex of the reversed octets; with the 00 that keeps a number positive in DER, or without."""
    number = certificate.serial_number
    length = number.bit_length() // 8 + 1 if sign_octet else (number.bit_length() + 7) // 8
    return number.to_bytes(length, "little").hex()


def subject_key_identifier(certificate):
    return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


def public_key_bits(certificate):
    """The contents of the BIT STRING: for P-256 the uncompressed point."""
    return certificate.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )


def issuer_serial(certificate, sign_octet=False):
    return f"X509:<I>{issuer_name(certificate)}<SR>{serial(certificate, sign_octet)}"


def issuer_serial_forward(certificate):
    """The number as it is printed everywhere else: a mistake that administrators make."""
    number = certificate.serial_number
    octets = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return f"X509:<I>{issuer_name(certificate)}<SR>{octets.hex()}"


def key_identifier(certificate):
    return f"X509:<SKI>{subject_key_identifier(certificate).hex()}"


def sha1_of_certificate(certificate):
    return f"X509:<SHA1-PUKEY>{hashlib.sha1(der(certificate)).hexdigest()}"


def sha1_of_key(certificate):
    return f"X509:<SHA1-PUKEY>{hashlib.sha1(public_key_bits(certificate)).hexdigest()}"


def sha1_of_key_information(certificate):
    information = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return f"X509:<SHA1-PUKEY>{hashlib.sha1(information).hexdigest()}"


def issuer_sid(certificate, sid):
    return f"X509:<I>{issuer_name(certificate)}<SID>{sid}"


def issuer_subject(certificate):
    return f"X509:<I>{issuer_name(certificate)}<S>{subject_name(certificate)}"


def subject(certificate):
    return f"X509:<S>{subject_name(certificate)}"


def mail(address):
    return f"X509:<RFC822>{address}"


def issuer(certificate):
    return f"X509:<I>{issuer_name(certificate)}"
