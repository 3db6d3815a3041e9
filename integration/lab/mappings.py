#!/usr/bin/python3
"""Writes into the lab's domain what certificates are mapped, trusted and revoked by.

    mappings.py SMB_CONF LAB

Reads the certificates and lists in LAB/pki; LAB/altsec.tsv says afterwards which certificate has which string, for tests that
compute the same: certificate, account, string.
"""

import os
import sys

import ldb

import altsec
from samdb import Directory

# certificate, account and what of it stands in altSecurityIdentities
IDENTITIES = [
    ("asi-sr", "asi-sr", altsec.issuer_serial),
    ("asi-sr00", "asi-sr00", lambda it: altsec.issuer_serial(it, sign_octet=True)),
    ("asi-sr-forward", "asi-sr-forward", altsec.issuer_serial_forward),
    ("asi-ski", "asi-ski", altsec.key_identifier),
    ("asi-sha1", "asi-sha1", altsec.sha1_of_certificate),
    ("asi-sha1-key", "asi-sha1-key", altsec.sha1_of_key),
    ("asi-sha1-spki", "asi-sha1-spki", altsec.sha1_of_key_information),
    ("asi-is", "asi-is", altsec.issuer_subject),
    ("asi-s", "asi-s", altsec.subject),
    ("asi-i", "asi-i", altsec.issuer),
    ("asi-rfc822", "asi-rfc822", lambda _: altsec.mail("asi-rfc822@corp.example")),
    ("twin", "twin1", altsec.key_identifier),
    ("twin", "twin2", altsec.key_identifier),
]
MAILS = {
    "mail1": "mail1@corp.example",
    "mailtwin1": "shared@corp.example",
    "mailtwin2": "shared@corp.example",
}
# The only CA that may issue for logon, and the objects of the lists.
NT_AUTH = "issuing-ca"
DISTRIBUTION_POINTS = {"issuing-ca": "Corp Issuing CA", "issuing-ca-renewed": "Corp Issuing CA(1)"}


class Lab:
    def __init__(self, smb_conf, directory):
        self.domain = Directory(smb_conf)
        self.directory = directory
        self.services = f"CN=Public Key Services,CN=Services,{self.domain.samdb.get_config_basedn()}"

    def certificate(self, name):
        return altsec.load(os.path.join(self.directory, "pki", f"{name}.pem"))

    def list(self, name):
        """A CRL in DER."""
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import Encoding

        with open(os.path.join(self.directory, "pki", f"{name}.crl"), "rb") as file:
            return x509.load_pem_x509_crl(file.read()).public_bytes(Encoding.DER)

    def sid(self, account):
        with open(os.path.join(self.directory, "sids.tsv"), encoding="utf-8") as file:
            return dict(line.rstrip("\n").split("\t") for line in file)[account]


def map_people(lab):
    identities = [(certificate, account, make(lab.certificate(certificate))) for certificate, account, make in IDENTITIES]
    sid = altsec.issuer_sid(lab.certificate("asi-sid"), lab.sid("asi-sid"))
    identities.append(("asi-sid", "asi-sid", sid))
    with open(os.path.join(lab.directory, "altsec.tsv"), "w", encoding="utf-8") as file:
        for certificate, account, text in identities:
            # An entry that is not about certificates stands beside it, as in old domains.
            values = [f"Kerberos:{account}@MIT.EXAMPLE", text]
            lab.domain.set(lab.domain.dn_of(account), "altSecurityIdentities", values)
            file.write(f"{certificate}\t{account}\t{text}\n")
    usercert = [altsec.der(lab.certificate(name)) for name in ("alice-expired", "usercert")]
    lab.domain.set(lab.domain.dn_of("usercert"), "userCertificate", usercert)
    for account, address in MAILS.items():
        lab.domain.set(lab.domain.dn_of(account), "mail", [address])


def publish(lab):
    samdb = lab.domain.samdb
    certificate = altsec.der(lab.certificate(NT_AUTH))
    samdb.add(
        {
            "dn": ldb.Dn(samdb, f"CN=NTAuthCertificates,{lab.services}"),
            "objectClass": "certificationAuthority",
            "cACertificate": certificate,
            # Mandatory, and without meaning here: AD CS writes one octet.
            "authorityRevocationList": b"\0",
            "certificateRevocationList": b"\0",
        }
    )
    samdb.add({"dn": ldb.Dn(samdb, f"CN=dc1,CN=CDP,{lab.services}"), "objectClass": "container"})
    for name, object_name in DISTRIBUTION_POINTS.items():
        samdb.add(
            {
                "dn": ldb.Dn(samdb, f"CN={object_name},CN=dc1,CN=CDP,{lab.services}"),
                "objectClass": "cRLDistributionPoint",
                "certificateRevocationList": lab.list(name),
            }
        )


def main():
    smb_conf, directory = sys.argv[1:]
    lab = Lab(smb_conf, directory)
    map_people(lab)
    publish(lab)


main()
