#!/usr/bin/python3
"""Fills a freshly provisioned Samba domain: accounts, delegation, keytabs, the list of users.

    domain.py SMB_CONF OUT

Works on the database files, without a running server. Writes into OUT:
    users.tsv   name, UPN and SID of every person (name = file name of the certificate)
    sids.tsv    sAMAccountName and SID of every account, machines and services included
    keytabs/    see `write_keytabs`
"""

import os
import secrets
import struct
import subprocess
import sys

import ldb
from samba.auth import system_session
from samba.credentials import Credentials
from samba.dsdb import (
    UF_ACCOUNTDISABLE,
    UF_DONT_EXPIRE_PASSWD,
    UF_NORMAL_ACCOUNT,
    UF_NOT_DELEGATED,
    UF_TRUSTED_TO_AUTHENTICATE_FOR_DELEGATION,
)
from samba.ndr import ndr_unpack
from samba.dcerpc import security
from samba.param import LoadParm
from samba.samdb import SamDB

REALM = "CORP.EXAMPLE"
DOMAIN = "corp.example"
EXTRA_UPN_SUFFIX = "mail.example"

LARGE_PAC_GROUPS = 75

# msDS-SupportedEncryptionTypes (MS-KILE 2.2.7)
RC4, AES = 0x4, 0x18

# certificate name: (sAMAccountName, UPN, further userAccountControl bits)
PEOPLE = {
    "alice": ("alice", f"alice@{DOMAIN}", 0),
    "bob": ("bob", f"bob@{DOMAIN}", 0),
    "carol": ("carol", f"carol@{DOMAIN}", UF_NOT_DELEGATED),
    "dave": ("dave", f"dave@{DOMAIN}", UF_ACCOUNTDISABLE),
    "erin": ("erin", f"erin@{DOMAIN}", 0),
    "frank": ("frank", f"frank@{EXTRA_UPN_SUFFIX}", 0),
    "admin1": ("admin1", f"admin1@{DOMAIN}", 0),
    "grace": ("grace", f"grace@{DOMAIN}", 0),
    "zoe": ("zoë", f"zoë@{DOMAIN}", 0),
    **{f"user{n:02}": (f"user{n:02}", f"user{n:02}@{DOMAIN}", 0) for n in range(1, 17)},
}

# service account: (encryption types, SPN)
BACK_ENDS = {
    "svc-mbx": (AES, f"HTTP/mbx1.{DOMAIN}"),
    "svc-legacy": (RC4, f"HTTP/mbx2003.{DOMAIN}"),
}
NOT_LISTED = ("svc-other", AES, f"HTTP/notlisted.{DOMAIN}")
BRIDGE = ("svc-bridge", AES, f"HTTP/bridge.{DOMAIN}")


class Directory:
    def __init__(self, smb_conf):
        self.smb_conf = smb_conf
        self.lp = LoadParm()
        self.lp.load(smb_conf)
        creds = Credentials()
        creds.guess(self.lp)
        creds.set_kerberos_state(0)
        self.samdb = SamDB(
            session_info=system_session(self.lp), credentials=creds, lp=self.lp
        )

    def add_account(self, name, upn, enctypes, bits=0, spn=None):
        dn = ldb.Dn(self.samdb, f"CN={name},CN=Users,{self.samdb.domain_dn()}")
        flags = UF_NORMAL_ACCOUNT | UF_DONT_EXPIRE_PASSWD | bits
        entry = {
            "dn": dn,
            "objectClass": "user",
            "sAMAccountName": name,
            "userPrincipalName": upn,
            "userAccountControl": str(flags | UF_ACCOUNTDISABLE),
            "msDS-SupportedEncryptionTypes": str(enctypes),
        }
        if spn:
            entry["servicePrincipalName"] = spn
        self.samdb.add(entry)
        self.samdb.setpassword(
            f"(distinguishedName={ldb.binary_encode(str(dn))})", secrets.token_urlsafe(24) + "Aa1!"
        )
        self.set(dn, "userAccountControl", [str(flags)])

    def set(self, dn, attribute, values):
        message = ldb.Message(dn)
        message[attribute] = ldb.MessageElement(values, ldb.FLAG_MOD_REPLACE, attribute)
        self.samdb.modify(message)

    def dn_of(self, name):
        return ldb.Dn(self.samdb, f"CN={name},CN=Users,{self.samdb.domain_dn()}")

    def sids(self):
        found = self.samdb.search(
            expression="(|(objectClass=user)(objectClass=computer))",
            attrs=["sAMAccountName", "objectSid"],
        )
        return {
            str(entry["sAMAccountName"]): str(
                ndr_unpack(security.dom_sid, entry["objectSid"][0])
            )
            for entry in found
        }

    def keytab(self, path, principal):
        if os.path.exists(path):
            os.unlink(path)
        # Net.export_keytab aborts in a process that has written to the database (Samba 4.22).
        subprocess.run(
            ["samba-tool", "domain", "exportkeytab", path, "-s", self.smb_conf]
            + [f"--principal={principal}"],
            check=True,
        )
        os.chmod(path, 0o600)


def fill(directory):
    samdb = directory.samdb
    partitions = ldb.Dn(samdb, f"CN=Partitions,{samdb.get_config_basedn()}")
    directory.set(partitions, "uPNSuffixes", [EXTRA_UPN_SUFFIX])

    for account, upn, bits in PEOPLE.values():
        directory.add_account(account, upn, AES, bits)
    samdb.add_remove_group_members("Domain Admins", ["admin1"])
    # A ticket of about 2 KB, as people with many groups have them.
    for number in range(1, LARGE_PAC_GROUPS + 1):
        samdb.newgroup(f"team{number:02}")
        samdb.add_remove_group_members(f"team{number:02}", ["grace"])

    for account, (enctypes, spn) in BACK_ENDS.items():
        directory.add_account(account, f"{account}@{DOMAIN}", enctypes, spn=spn)
    account, enctypes, spn = NOT_LISTED
    directory.add_account(account, f"{account}@{DOMAIN}", enctypes, spn=spn)

    account, enctypes, spn = BRIDGE
    directory.add_account(
        account, f"{account}@{DOMAIN}", enctypes, UF_TRUSTED_TO_AUTHENTICATE_FOR_DELEGATION, spn
    )
    directory.set(
        directory.dn_of(account),
        "msDS-AllowedToDelegateTo",
        [spn for _, spn in BACK_ENDS.values()],
    )


def keytab_entries(path):
    """The records of a version 5.2 keytab, without their length prefix."""
    with open(path, "rb") as file:
        data = file.read()
    assert data[:2] == b"\x05\x02", path
    at, entries = 2, []
    while at + 4 <= len(data):
        (length,) = struct.unpack_from(">i", data, at)
        at += 4
        if length > 0:
            entries.append(data[at : at + length])
        at += abs(length)
    return entries


def write_keytab(path, entries):
    with open(path, "wb") as file:
        file.write(b"\x05\x02")
        for entry in entries:
            file.write(struct.pack(">i", len(entry)) + entry)
    os.chmod(path, 0o600)


def with_random_key(entry):
    """The same record (principal, version number, enctype) around another key."""
    (components,) = struct.unpack_from(">H", entry, 0)
    at = 2
    for _ in range(components + 1):  # the realm, then the components
        (length,) = struct.unpack_from(">H", entry, at)
        at += 2 + length
    at += 4 + 4 + 1 + 2  # name type, time, version number, enctype
    (length,) = struct.unpack_from(">H", entry, at)
    at += 2
    return entry[:at] + secrets.token_bytes(length) + entry[at + length :]


def write_keytabs(directory, out):
    """bridge: the impersonator; wrong-key: the same with other keys; mbx1, mbx2003: one back
    end each; mbx: both; notlisted: the service that is not on the delegation list."""
    os.makedirs(out, exist_ok=True)
    path = lambda name: os.path.join(out, f"{name}.keytab")  # noqa: E731

    directory.keytab(path("bridge"), f"{BRIDGE[0]}@{REALM}")
    write_keytab(path("wrong-key"), map(with_random_key, keytab_entries(path("bridge"))))
    merged = []
    for _, spn in BACK_ENDS.values():
        name = spn.split("/")[1].split(".")[0]
        directory.keytab(path(name), f"{spn}@{REALM}")
        merged += keytab_entries(path(name))
    write_keytab(path("mbx"), merged)
    directory.keytab(path("notlisted"), f"{NOT_LISTED[2]}@{REALM}")


def write_lists(directory, out):
    sids = directory.sids()
    with open(os.path.join(out, "users.tsv"), "w", encoding="utf-8") as file:
        for name, (account, upn, _) in PEOPLE.items():
            file.write(f"{name}\t{upn}\t{sids[account]}\n")
    with open(os.path.join(out, "sids.tsv"), "w", encoding="utf-8") as file:
        for account, sid in sorted(sids.items()):
            file.write(f"{account}\t{sid}\n")


def main():
    smb_conf, out = sys.argv[1:]
    directory = Directory(smb_conf)
    fill(directory)
    write_keytabs(directory, os.path.join(out, "keytabs"))
    write_lists(directory, out)


main()
