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


def name(distinguished):
    def attribute(part):
        dotted = part.oid.dotted_string
        return f"{KEYS.get(dotted, f'OID.{dotted}')}={quoted(part.value)}"

    return ",".join(" ".join(map(attribute, rdn)) for rdn in distinguished.rdns)


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
    return f"X509:<I>{name(certificate.issuer)}<SR>{serial(certificate, sign_octet)}"


def issuer_serial_forward(certificate):
    """The number as it is printed everywhere else: a mistake that administrators make."""
    number = certificate.serial_number
    octets = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return f"X509:<I>{name(certificate.issuer)}<SR>{octets.hex()}"


def key_identifier(certificate):
    return f"X509:<SKI>{subject_key_identifier(certificate).hex()}"


def sha1_of_certificate(certificate):
    return f"X509:<SHA1-PUKEY>{hashlib.sha1(der(certificate)).hexdigest()}"


def sha1_of_key(certificate):
    return f"X509:<SHA1-PUKEY>{hashlib.sha1(public_key_bits(certificate)).hexdigest()}"


def issuer_sid(certificate, sid):
    return f"X509:<I>{name(certificate.issuer)}<SID>{sid}"


def issuer_subject(certificate):
    return f"X509:<I>{name(certificate.issuer)}<S>{name(certificate.subject)}"


def subject(certificate):
    return f"X509:<S>{name(certificate.subject)}"


def mail(address):
    return f"X509:<RFC822>{address}"


def issuer(certificate):
    return f"X509:<I>{name(certificate.issuer)}"
