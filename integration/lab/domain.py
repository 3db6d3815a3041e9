#!/usr/bin/python3
"""Fills a freshly provisioned Samba domain: accounts, delegation, keytabs, the list of users.

    domain.py SMB_CONF OUT

Works on the database files, without a running server. Writes into OUT:
    users.tsv   name, UPN and SID of every person (name = file name of the certificate)
    sids.tsv    sAMAccountName and SID of every account, machines and services included
    keytabs/    see `write_keytabs`
    svc-ldap.password
The people that certificates are mapped to by what is in the directory come after the certificates: mappings.py.
"""

import os
import secrets
import struct
import sys
import time

import ldb
from samba.dcerpc import security
from samba.dsdb import (
    UF_ACCOUNTDISABLE,
    UF_DONT_EXPIRE_PASSWD,
    UF_NORMAL_ACCOUNT,
    UF_NOT_DELEGATED,
    UF_TRUSTED_TO_AUTHENTICATE_FOR_DELEGATION,
    UF_WORKSTATION_TRUST_ACCOUNT,
)

from samba.ndr import ndr_pack

import defects
from samdb import Directory

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
    # For tests that disable somebody.
    **{name: (name, f"{name}@{DOMAIN}", 0) for name in ("leaver1", "leaver2")},
    **{f"user{n:02}": (f"user{n:02}", f"user{n:02}@{DOMAIN}", 0) for n in range(1, 17)},
}

# Each is unlike the others in one way, which `gate` gives it. They too have a certificate with their SID.
GATED = ["locked", "expired", "mustchange", "protected", "nestedprotected", "formeradmin", "nestedadmin", "nohours"]

# Nobody works with them, and they have no certificates: two for the self-tests of back ends, one for the canary.
PROBES = ["probe1", "probe2", "canary"]

# Nothing about them yet but an account; mappings.py gives them what a certificate is mapped by.
MAPPED = [
    *("asi-sr", "asi-sr00", "asi-sr-forward", "asi-ski", "asi-sha1", "asi-sha1-key"),
    *("asi-sha1-spki", "asi-sid"),
    *("asi-is", "asi-s", "asi-rfc822", "asi-i"),
    *("twin1", "twin2", "usercert", "mail1", "mailtwin1", "mailtwin2"),
]

# The implicit UPN of one is the explicit UPN of the other.
VICTIM, USURPER = "victim", "usurper"
# UPN with a space at the end: Samba's equality finds it without.
TRAILING, TRAILING_UPN = "trailing", "trail"

COMPUTER = "pc1"
READER = "svc-ldap"

# service account: (encryption types, SPN); None: nobody ever set the attribute
BACK_ENDS = {
    "svc-mbx": (AES, f"HTTP/mbx1.{DOMAIN}"),
    "svc-legacy": (RC4, f"HTTP/mbx2003.{DOMAIN}"),
    "svc-unset": (None, f"HTTP/unset.{DOMAIN}"),
    # For the test that sets it.
    "svc-mended": (None, f"HTTP/mended.{DOMAIN}"),
    # For the test that changes its password, in a copy of the domain.
    "svc-rolled": (AES, f"HTTP/rolled.{DOMAIN}"),
}
NOT_LISTED = ("svc-other", AES, f"HTTP/notlisted.{DOMAIN}")
BRIDGE = ("svc-bridge", AES, f"HTTP/bridge.{DOMAIN}")
# Bridges whose passwords tests change.
CHANGING = {f"svc-roll{n}": f"HTTP/roll{n}.{DOMAIN}" for n in (1, 2)}
# The same with keys of twenty years ago.
OLD_BRIDGE = ("svc-oldbridge", RC4, f"HTTP/oldbridge.{DOMAIN}")
# The same without protocol transition: its evidence tickets are not forwardable.
PLAIN_BRIDGE = ("svc-plain", AES, f"HTTP/plain-bridge.{DOMAIN}")
# Without protocol transition and without a list.
LISTLESS_BRIDGE = ("svc-listless", AES, f"HTTP/listless-bridge.{DOMAIN}")
# A back end that says by itself who may delegate to it: all of them.
RESOURCE = ("svc-resource", AES, f"HTTP/resource.{DOMAIN}")


def filetime(seconds):
    return str(int((seconds + 11_644_473_600) * 10_000_000))


def gate(directory):
    """The accounts of GATED, and with each the one thing it has to be refused for."""
    samdb = directory.samdb
    for name in GATED:
        directory.add_account(name, f"{name}@{DOMAIN}", AES)
    # Nobody is locked out by mistyping; who is locked out stays it until somebody unlocks them.
    directory.set(samdb.get_default_basedn(), "lockoutDuration", [str(-(2**63))])
    directory.set(directory.dn_of("locked"), "lockoutTime", [filetime(time.time() - 3600)])
    directory.set(directory.dn_of("expired"), "accountExpires", [filetime(time.time() - 86400)])
    directory.set(directory.dn_of("mustchange"), "userAccountControl", [str(UF_NORMAL_ACCOUNT)])
    directory.set(directory.dn_of("mustchange"), "pwdLastSet", ["0"])
    directory.set(directory.dn_of("formeradmin"), "adminCount", ["1"])
    directory.set(directory.dn_of("nohours"), "logonHours", [bytes(21)])
    samdb.newgroup("vips")
    samdb.newgroup("tier0")
    samdb.add_remove_group_members("vips", ["nestedprotected"])
    samdb.add_remove_group_members("tier0", ["nestedadmin"])
    samdb.add_remove_group_members("Protected Users", ["protected", "vips"])
    samdb.add_remove_group_members("Domain Admins", ["tier0"])


def add_hazards(directory):
    """Names that two accounts answer to, and a computer."""
    samdb = directory.samdb
    directory.add_account(VICTIM, None, AES)
    directory.add_account(USURPER, f"{USURPER}@{DOMAIN}", AES)
    directory.set_unchecked(directory.dn_of(USURPER), "userPrincipalName", [f"{VICTIM}@{DOMAIN}"])
    directory.add_account(TRAILING, f"{TRAILING_UPN}@{DOMAIN} ", AES)
    samdb.add(
        {
            "dn": ldb.Dn(samdb, f"CN={COMPUTER},CN=Computers,{samdb.domain_dn()}"),
            "objectClass": "computer",
            "sAMAccountName": f"{COMPUTER}$",
            "dNSHostName": f"{COMPUTER}.{DOMAIN}",
            "servicePrincipalName": [f"HOST/{COMPUTER}", f"HOST/{COMPUTER}.{DOMAIN}"],
            "userAccountControl": str(UF_WORKSTATION_TRUST_ACCOUNT),
        }
    )


def add_reader(directory, path):
    """The account that may read the directory and nothing more."""
    password = directory.add_account(READER, f"{READER}@{DOMAIN}", AES)
    with open(path, "w", encoding="utf-8") as file:
        file.write(password + "\n")
    os.chmod(path, 0o600)


def add_resource(directory):
    """Resource-based delegation: on nobody's list, but with a list of its own (MS-ADA2 2.210)."""
    for account, enctypes, spn in (PLAIN_BRIDGE, LISTLESS_BRIDGE):
        directory.add_account(account, f"{account}@{DOMAIN}", enctypes, spn=spn)
    # An account without any list gets forwardable evidence tickets (MS-SFU 3.2.5.1.2).
    directory.set(
        directory.dn_of(PLAIN_BRIDGE[0]),
        "msDS-AllowedToDelegateTo",
        [spn for _, spn in BACK_ENDS.values()],
    )
    account, enctypes, spn = RESOURCE
    directory.add_account(account, f"{account}@{DOMAIN}", enctypes, spn=spn)
    sids = directory.sids()
    allowed = "".join(f"(A;;0xf01ff;;;{sids[name]})" for name, _, _ in (BRIDGE, PLAIN_BRIDGE, LISTLESS_BRIDGE))
    descriptor = security.descriptor.from_sddl(f"O:BAD:{allowed}", security.dom_sid(sids[account]))
    directory.set(
        directory.dn_of(account), "msDS-AllowedToActOnBehalfOfOtherIdentity", [ndr_pack(descriptor)]
    )


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

    bridges = [BRIDGE, OLD_BRIDGE, *((account, AES, spn) for account, spn in CHANGING.items())]
    for account, enctypes, spn in bridges:
        directory.add_account(
            account, f"{account}@{DOMAIN}", enctypes, UF_TRUSTED_TO_AUTHENTICATE_FOR_DELEGATION, spn
        )
        directory.set(
            directory.dn_of(account),
            "msDS-AllowedToDelegateTo",
            [spn for _, spn in BACK_ENDS.values()],
        )

    add_resource(directory)
    defects.add(directory, [spn for _, spn in BACK_ENDS.values()])
    gate(directory)
    add_hazards(directory)
    for name in [*MAPPED, *PROBES]:
        directory.add_account(name, f"{name}@{DOMAIN}", AES)


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


def with_random_key(entry, later=0):
    """The same record (principal, version number, enctype) around another key, so many versions later."""
    (components,) = struct.unpack_from(">H", entry, 0)
    at = 2
    for _ in range(components + 1):  # the realm, then the components
        (length,) = struct.unpack_from(">H", entry, at)
        at += 2 + length
    at += 4 + 4  # name type, time
    version = (entry[at] + later) % 256
    entry = entry[:at] + bytes([version]) + entry[at + 1 :]
    at += 1 + 2  # version number, enctype
    (length,) = struct.unpack_from(">H", entry, at)
    at += 2
    tail = entry[at + length :]
    if len(tail) >= 4:  # the longer version number
        (version,) = struct.unpack(">I", tail[:4])
        tail = struct.pack(">I", version + later if version else 0) + tail[4:]
    return entry[:at] + secrets.token_bytes(length) + tail


def write_keytabs(directory, out):
    """bridge: the impersonator; wrong-key: the same with other keys; ahead: its keys and those of a
    version that the domain does not know; oldbridge: one with an RC4 key; plain-bridge, listless-bridge:
    those without protocol transition; mbx1, mbx2003, unset, mended, rolled: one back end each; mbx: all
    of them; notlisted: the service that is not on the delegation list; resource: the one with a list of
    its own."""
    os.makedirs(out, exist_ok=True)
    path = lambda name: os.path.join(out, f"{name}.keytab")  # noqa: E731

    directory.keytab(path("bridge"), f"{BRIDGE[0]}@{REALM}")
    own = keytab_entries(path("bridge"))
    write_keytab(path("wrong-key"), map(with_random_key, own))
    write_keytab(path("ahead"), own + [with_random_key(entry, later=1) for entry in own])
    directory.keytab(path("oldbridge"), f"{OLD_BRIDGE[0]}@{REALM}")
    merged = []
    for _, spn in BACK_ENDS.values():
        name = spn.split("/")[1].split(".")[0]
        directory.keytab(path(name), f"{spn}@{REALM}")
        merged += keytab_entries(path(name))
    write_keytab(path("mbx"), merged)
    directory.keytab(path("notlisted"), f"{NOT_LISTED[2]}@{REALM}")
    directory.keytab(path("plain-bridge"), f"{PLAIN_BRIDGE[0]}@{REALM}")
    directory.keytab(path("listless-bridge"), f"{LISTLESS_BRIDGE[0]}@{REALM}")
    directory.keytab(path("resource"), f"{RESOURCE[2]}@{REALM}")
    defects.write_keytabs(directory, out)


def write_lists(directory, out):
    sids = directory.sids()
    with open(os.path.join(out, "users.tsv"), "w", encoding="utf-8") as file:
        for name, (account, upn, _) in PEOPLE.items():
            file.write(f"{name}\t{upn}\t{sids[account]}\n")
        for name in [*GATED, VICTIM]:
            file.write(f"{name}\t{name}@{DOMAIN}\t{sids[name]}\n")
        file.write(f"{TRAILING_UPN}\t{TRAILING_UPN}@{DOMAIN}\t{sids[TRAILING]}\n")
        file.write(f"{USURPER}\t{VICTIM}@{DOMAIN}\t{sids[USURPER]}\n")
    with open(os.path.join(out, "sids.tsv"), "w", encoding="utf-8") as file:
        for account, sid in sorted(sids.items()):
            file.write(f"{account}\t{sid}\n")


def main():
    smb_conf, out = sys.argv[1:]
    directory = Directory(smb_conf)
    fill(directory)
    add_reader(directory, os.path.join(out, f"{READER}.password"))
    write_keytabs(directory, os.path.join(out, "keytabs"))
    write_lists(directory, out)


main()
