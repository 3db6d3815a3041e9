#!/usr/bin/python3
"""Three MIT realms for what Samba cannot show: S4U2Self and S4U2Proxy over trusts. EAST.EXAMPLE, with the bridge, and SOUTH.EXAMPLE
trust WEST.EXAMPLE both ways and each other only through it, as two domains of a forest do. Their databases are text files for
kdb/textkdb.c; the PACs in them are Samba's encoding.

    realms.py LAB     writes LAB/realms: krb5.conf, kdcs.tsv, */ (kdc.conf and database of each realm), *.keytab, sids.tsv

A fourth realm, NORTH.EXAMPLE, is only referred to: it has no KDC.
"""

import os
import secrets
import struct
import sys

from samba.dcerpc import krb5pac, samr, security
from samba.ndr import ndr_pack

EAST, WEST, SOUTH, NORTH = (f"{name}.EXAMPLE" for name in ("EAST", "WEST", "SOUTH", "NORTH"))
PORTS = {EAST: 10188, WEST: 10288, SOUTH: 10388}
DOMAINS = {
    EAST: "S-1-5-21-1001-1002-1003",
    WEST: "S-1-5-21-2001-2002-2003",
    SOUTH: "S-1-5-21-3001-3002-3003",
}
# DNS suffixes that a realm's KDC refers to another realm, and the next realm on the way there.
REFERRALS = {
    EAST: {
        "west.example": (WEST, WEST),
        "brand.example": (WEST, WEST),
        "south.example": (SOUTH, WEST),
        "north.example": (NORTH, NORTH),
    },
    WEST: {"east.example": (EAST, EAST), "south.example": (SOUTH, SOUTH)},
    SOUTH: {"west.example": (WEST, WEST), "east.example": (EAST, WEST)},
}

AES256 = 18
KRB5_NT_PRINCIPAL = 1
# KRB5_KDB_* attributes
REQUIRES_PRE_AUTH, DISALLOW_FORWARDABLE, OK_TO_AUTH_AS_DELEGATE = 0x80, 0x2, 0x200000
# MS-SAMR 2.2.1.12
USER_NORMAL_ACCOUNT, USER_NOT_DELEGATED = 0x10, 0x4000

# With protocol transition; the same list without it; no list at all; as the second, at a KDC that treats evidence as Windows does.
BRIDGES = [f"svc-{name}@{EAST}" for name in ("transition", "plain", "listless", "windows")]


def service(name, realm):
    return f"HTTP/{name}.{realm.lower()}@{realm}"


def utf16(text):
    return text.encode("utf-16-le")


def logon_info(realm, account, rid, control, groups=0):
    """KERB_VALIDATION_INFO (MS-PAC 2.5), with so many groups."""
    info = krb5pac.PAC_LOGON_INFO()
    base = info.info3.base
    base.account_name.string = base.full_name.string = account
    base.logon_server.string = "KDC"
    base.logon_domain.string = realm.split(".")[0]
    base.domain_sid = security.dom_sid(DOMAINS[realm])
    base.rid, base.primary_gid, base.acct_flags = rid, 513, control
    rids = []
    for number in range(groups):
        group = samr.RidWithAttribute()
        group.rid, group.attributes = 5000 + number, 7
        rids.append(group)
    base.groups.count, base.groups.rids = groups, rids
    buffer = krb5pac.PAC_BUFFER()
    buffer.type = krb5pac.PAC_TYPE_LOGON_INFO
    buffer.info = krb5pac.PAC_LOGON_INFO_CTR()
    buffer.info.info = info
    pac = krb5pac.PAC_DATA()
    pac.num_buffers, pac.buffers = 1, [buffer]
    packed = ndr_pack(pac)
    _, size, offset = struct.unpack_from("<IIQ", packed, 8)
    return packed[offset : offset + size]


def upn_info(realm, account, upn, sid):
    """UPN_DNS_INFO (MS-PAC 2.10) with the account's name and SID."""
    sid = ndr_pack(security.dom_sid(sid))
    parts, offset, head, body = [utf16(upn), utf16(realm), utf16(account), sid], 24, b"", b""
    for number, part in enumerate(parts):
        padded = part + bytes(-len(part) % 8)
        head += struct.pack("<HH", len(part), offset + len(body))
        body += padded
        if number == 1:
            head += struct.pack("<I", krb5pac.PAC_UPN_DNS_FLAG_HAS_SAM_NAME_AND_SID)
    return head.ljust(offset, b"\0") + body


class Realm:
    def __init__(self, name):
        self.name, self.lines, self.keys, self.sids = name, [], {}, {}
        for suffix, (realm, via) in REFERRALS[name].items():
            self.lines.append(f"referral {suffix} {realm} {via}")

    def add(self, principal, attributes=0, key=None, aliases=(), to=(), accepts=(), as_windows=False):
        self.keys[principal] = key or secrets.token_bytes(32)
        self.lines += [f"principal {principal}", f"attribute {attributes:x}"]
        self.lines.append(f"key {AES256} 1 {self.keys[principal].hex()}")
        self.lines += [f"alias {alias}" for alias in aliases]
        self.lines += [f"delegates-to {name}" for name in to]
        self.lines += [f"accepts-from {name}" for name in accepts]
        self.lines += ["as-windows yes"] * as_windows

    def add_account(self, name, rid, attributes=0, control=0, upn=None, groups=0, **more):
        upn = upn or f"{name}@{self.name.lower()}"
        principal = f"{name}@{self.name}"
        aliases = [upn, *more.pop("aliases", ())]
        self.add(principal, attributes | REQUIRES_PRE_AUTH, aliases=aliases, **more)
        sid = f"{DOMAINS[self.name]}-{rid}"
        self.sids[principal] = sid
        info = logon_info(self.name, name, rid, control | USER_NORMAL_ACCOUNT, groups)
        self.lines.append(f"pac {krb5pac.PAC_TYPE_LOGON_INFO} {info.hex()}")
        self.lines.append(f"pac {krb5pac.PAC_TYPE_UPN_DNS_INFO} {upn_info(self.name, name, upn, sid).hex()}")


def fill():
    realms = east, west, south = Realm(EAST), Realm(WEST), Realm(SOUTH)
    for realm in realms:
        realm.add(f"krbtgt/{realm.name}@{realm.name}")
    for one, other in ((east, west), (west, south)):
        for trust in (f"krbtgt/{one.name}@{other.name}", f"krbtgt/{other.name}@{one.name}"):
            one.add(trust)
            other.add(trust, key=one.keys[trust])
    east.add(f"krbtgt/{NORTH}@{EAST}")

    listed = [service("mbx", realm.name) for realm in realms]
    east.add_account("svc-transition", 1101, OK_TO_AUTH_AS_DELEGATE, to=listed)
    east.add_account("svc-plain", 1102, to=listed)
    east.add_account("svc-listless", 1103)
    east.add_account("svc-windows", 1104, to=listed, as_windows=True)
    for realm in realms:
        realm.add(service("mbx", realm.name))
        realm.add(service("open", realm.name), accepts=BRIDGES)
        realm.add(service("closed", realm.name))

    east.add_account("alice", 1201, aliases=["alice@alias.example"])
    east.add_account("carol", 1202, DISALLOW_FORWARDABLE, USER_NOT_DELEGATED)
    # With a ticket of about 2 KB, as people with many groups have them, and with many spellings.
    east.add_account("somebody", 1203, upn="somebody.with.many.spellings@east.example", groups=100)
    # The same account name, another person.
    west.add_account("alice", 1301)
    west.add_account("wendy", 1302, aliases=["wendy@brand.example"])
    west.add_account("wcarol", 1303, DISALLOW_FORWARDABLE, USER_NOT_DELEGATED)
    # The UPN says nothing of the realm: the KDC of the other realm is the one that knows.
    west.add_account("walter", 1304, upn="walter.w@brand.example")
    south.add_account("susan", 1401)
    return realms


def data(text):
    encoded = text.encode()
    return struct.pack(">H", len(encoded)) + encoded


def write_keytab(path, keys):
    with open(path, "wb") as file:
        file.write(b"\x05\x02")
        for principal, key in keys.items():
            name, realm = principal.rsplit("@", 1)
            components = name.split("/")
            entry = struct.pack(">H", len(components)) + data(realm) + b"".join(map(data, components))
            entry += struct.pack(">IIBHH", KRB5_NT_PRINCIPAL, 0, 1, AES256, len(key)) + key
            file.write(struct.pack(">i", len(entry)) + entry)


def write_realm(lab, realm):
    short = realm.name.split(".")[0].lower()
    directory = os.path.join(lab, "realms", short)
    os.makedirs(directory)
    with open(os.path.join(directory, "database"), "w", encoding="utf-8") as file:
        file.write("\n".join(realm.lines) + "\n")
    address = f"127.0.0.1:{PORTS[realm.name]}"
    log = f"FILE:{lab}/logs/krb5kdc-{short}.requests.log"
    with open(os.path.join(directory, "kdc.conf"), "w", encoding="utf-8") as file:
        file.write(f"""[kdcdefaults]
    kdc_listen = {address}
    kdc_tcp_listen = {address}
    kdc_tcp_listen_backlog = 256
[realms]
    {realm.name} = {{
        database_module = textkdb
        max_life = 10h
    }}
[dbmodules]
    db_module_dir = {lab}/realms
    textkdb = {{
        db_library = textkdb
        database_name = {directory}/database
    }}
[logging]
    kdc = {log}
    default = {log}
""")


def write_krb5_conf(path):
    realms = "".join(f"    {name} = {{\n        kdc = 127.0.0.1:{port}\n    }}\n" for name, port in PORTS.items())
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"""[libdefaults]
    default_realm = {EAST}
    dns_lookup_kdc = false
    dns_lookup_realm = false
    dns_canonicalize_hostname = false
    rdns = false
    forwardable = true
[realms]
{realms}""")


def main():
    os.umask(0o077)
    lab = os.path.abspath(sys.argv[1])
    directory = os.path.join(lab, "realms")
    realms = fill()
    for realm in realms:
        write_realm(lab, realm)
    write_krb5_conf(os.path.join(directory, "krb5.conf"))
    for bridge in BRIDGES:
        write_keytab(os.path.join(directory, f"{bridge.split('@')[0]}.keytab"), {bridge: realms[0].keys[bridge]})
    services = {name: realm.keys[name] for realm in realms for name in realm.keys if name.startswith("HTTP/")}
    write_keytab(os.path.join(directory, "services.keytab"), services)
    with open(os.path.join(directory, "sids.tsv"), "w", encoding="utf-8") as file:
        for realm in realms:
            file.writelines(f"{name}\t{sid}\n" for name, sid in realm.sids.items())
    with open(os.path.join(directory, "kdcs.tsv"), "w", encoding="utf-8") as file:
        file.writelines(f"{name}\t127.0.0.1\t{port}\n" for name, port in PORTS.items())


main()
