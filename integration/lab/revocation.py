#!/usr/bin/python3
"""Revokes certificates of the lab's CAs while it runs, and publishes the lists where they are looked for.

    revocation.py LAB revoke NAME [--reason keyCompromise] [--delta]    LAB/pki/NAME.pem
    revocation.py LAB restore NAME [--delta]
    revocation.py LAB publish CA [--delta] [--this-update SECONDS] [--next-update SECONDS] [--number N]

Published are LAB/pki/CA.crl (PEM), the lab's web server (DER) and, for CAs with an object in the directory, that. With --delta,
the base list stays and CA+.crl says what has changed since; without it, delta lists are made empty. The OCSP responder reads the
same database and knows at once. SECONDS count from now; a restored certificate is as if it had never been revoked.
"""

import argparse
import base64
import datetime
import fcntl
import os
import subprocess
import sys
import tempfile

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

# CA: its object below CN=dc1,CN=CDP,CN=Public Key Services
OBJECTS = {"issuing-ca": "Corp Issuing CA", "issuing-ca-renewed": "Corp Issuing CA(1)"}
CDP = "CN=dc1,CN=CDP,CN=Public Key Services,CN=Services,CN=Configuration,DC=corp,DC=example"
DAYS = 30
TIME = "%y%m%d%H%M%SZ"


class Authority:
    def __init__(self, lab, name):
        self.lab, self.name = lab, name
        self.database = os.path.join(lab, "pki", "ca", name)
        self.certificate = read_certificate(os.path.join(lab, "pki", f"{name}.pem"))
        with open(os.path.join(lab, "pki", f"{name}.key"), "rb") as file:
            self.key = serialization.load_pem_private_key(file.read(), None)

    def entries(self):
        """The rows of openssl's database: status, end, revocation[,reason], serial, file, subject."""
        with open(os.path.join(self.database, "index.txt"), encoding="utf-8") as file:
            return [line.rstrip("\n").split("\t") for line in file]

    def mark(self, serial, status, revocation):
        rows, found = self.entries(), False
        for row in rows:
            if int(row[3], 16) == serial:
                row[0], row[2], found = status, revocation, True
        if not found:
            sys.exit(f"revocation.py: {self.name} has not issued {serial:X}")
        replace(os.path.join(self.database, "index.txt"), "".join("\t".join(row) + "\n" for row in rows).encode())

    def revoked(self):
        """serial: (time, reason or none)"""
        found = {}
        for status, _, revocation, serial, *_ in self.entries():
            if status == "R":
                time, _, reason = revocation.partition(",")
                found[int(serial, 16)] = (datetime.datetime.strptime(time, TIME), reason or None)
        return found

    def next_number(self):
        path = os.path.join(self.database, "crlnumber")
        with open(path, encoding="ascii") as file:
            number = int(file.read(), 16)
        replace(path, f"{number + 1:04X}\n".encode())
        return number

    def base(self):
        """The base list that is out: its number, and what it revokes."""
        with open(os.path.join(self.lab, "pki", f"{self.name}.crl"), "rb") as file:
            crl = x509.load_pem_x509_crl(file.read())
        number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        return number, {entry.serial_number for entry in crl}

    def sign(self, entries, number, options, base=None):
        now = datetime.datetime.utcnow().replace(microsecond=0)
        after = DAYS * 86400 if options.next_update is None else options.next_update
        # A list that has run out began before.
        this_update = now + datetime.timedelta(seconds=min(options.this_update, after - 3600))
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(this_update)
            .next_update(now + datetime.timedelta(seconds=after))
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.certificate.public_key()), critical=False
            )
            .add_extension(x509.CRLNumber(number), critical=False)
        )
        if base is not None:
            builder = builder.add_extension(x509.DeltaCRLIndicator(base), critical=True)
        elif self.name in OBJECTS:
            builder = builder.add_extension(self.freshest(), critical=False)
        for serial, (time, reason) in sorted(entries.items()):
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(time)
            if reason:
                entry = entry.add_extension(x509.CRLReason(REASONS[reason]), critical=False)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self.key, hashes.SHA256())

    def freshest(self):
        names = [x509.UniformResourceIdentifier(f"http://pki.corp.example/{self.name}+.crl")]
        return x509.FreshestCRL([x509.DistributionPoint(names, None, None, None)])

    def publish(self, options):
        revoked = self.revoked()
        if options.delta:
            number, listed = self.base()
            now = datetime.datetime.utcnow()
            changes = {serial: entry for serial, entry in revoked.items() if serial not in listed}
            changes |= {serial: (now, "removeFromCRL") for serial in listed if serial not in revoked}
            self.put("+", self.sign(changes, options.number or self.next_number(), options, number))
            return
        number = options.number or self.next_number()
        self.put("", self.sign(revoked, number, options))
        if self.name in OBJECTS:
            self.put("+", self.sign({}, number, options, number))

    def put(self, suffix, crl):
        der = crl.public_bytes(serialization.Encoding.DER)
        pem = crl.public_bytes(serialization.Encoding.PEM)
        # The directory last: who waits for it may rely on the others.
        replace(os.path.join(self.lab, "pki", f"{self.name}{suffix}.crl"), pem)
        www = os.path.join(self.lab, "apache", "pki")
        if os.path.isdir(www):
            replace(os.path.join(www, f"{self.name}{suffix}.crl"), der, 0o644)
        if self.name in OBJECTS:
            attribute = "deltaRevocationList" if suffix else "certificateRevocationList"
            self.modify(f"CN={OBJECTS[self.name]},{CDP}", attribute, der)

    def modify(self, dn, attribute, value):
        ldif = f"dn: {dn}\nchangetype: modify\nreplace: {attribute}\n"
        ldif += f"{attribute}:: {base64.b64encode(value).decode()}\n"
        command = ["ldbmodify", "-H", os.path.join(self.lab, "dc", "private", "sam.ldb")]
        subprocess.run(command, input=ldif.encode(), stdout=subprocess.DEVNULL, check=True)


def openssl_name(flag):
    return flag.value if flag is not x509.ReasonFlags.remove_from_crl else "removeFromCRL"


REASONS = {openssl_name(flag): flag for flag in x509.ReasonFlags} | {"CACompromise": x509.ReasonFlags.ca_compromise}


def read_certificate(path):
    with open(path, "rb") as file:
        return x509.load_pem_x509_certificate(file.read())


def replace(path, data, mode=0o600):
    """All of it or nothing, whoever reads meanwhile."""
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path))
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    os.chmod(temporary, mode)
    os.rename(temporary, path)


def issuer_of(lab, certificate):
    """The CA whose key identifier the certificate names: two may have the same name."""
    wanted = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    for name in sorted(os.listdir(os.path.join(lab, "pki", "ca"))):
        if name.startswith("."):
            continue
        authority = Authority(lab, name)
        own = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        if own.value.digest == wanted:
            return authority
    sys.exit("revocation.py: none of the lab's CAs issued this certificate")


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("lab")
    parser.add_argument("action", choices=["revoke", "restore", "publish"])
    parser.add_argument("name")
    parser.add_argument("--reason", choices=sorted(REASONS), default="keyCompromise")
    parser.add_argument("--delta", action="store_true")
    parser.add_argument("--this-update", type=int, default=0)
    parser.add_argument("--next-update", type=int)
    parser.add_argument("--number", type=int)
    return parser.parse_args()


def main():
    options = arguments()
    with open(os.path.join(options.lab, "pki", "ca", ".lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if options.action == "publish":
            Authority(options.lab, options.name).publish(options)
            return
        certificate = read_certificate(os.path.join(options.lab, "pki", f"{options.name}.pem"))
        authority = issuer_of(options.lab, certificate)
        now = datetime.datetime.utcnow().strftime(TIME)
        if options.action == "revoke":
            authority.mark(certificate.serial_number, "R", f"{now},{options.reason}")
        else:
            authority.mark(certificate.serial_number, "V", "")
        authority.publish(options)


main()
