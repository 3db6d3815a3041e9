"""The database of the lab's Samba domain, opened as files: works whether the server runs or not."""

import os
import secrets
import subprocess

import ldb
from samba.auth import system_session
from samba.credentials import Credentials
from samba.dcerpc import security
from samba.dsdb import UF_ACCOUNTDISABLE, UF_DONT_EXPIRE_PASSWD, UF_NORMAL_ACCOUNT
from samba.ndr import ndr_unpack
from samba.param import LoadParm
from samba.samdb import SamDB


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
            "userAccountControl": str(flags | UF_ACCOUNTDISABLE),
        }
        if enctypes is not None:
            entry["msDS-SupportedEncryptionTypes"] = str(enctypes)
        if upn:
            entry["userPrincipalName"] = upn
        if spn:
            entry["servicePrincipalName"] = spn
        self.samdb.add(entry)
        password = secrets.token_urlsafe(24) + "Aa1!"
        self.samdb.setpassword(f"(distinguishedName={ldb.binary_encode(str(dn))})", password)
        self.set(dn, "userAccountControl", [str(flags)])
        return password

    def set(self, dn, attribute, values):
        message = ldb.Message(dn)
        message[attribute] = ldb.MessageElement(values, ldb.FLAG_MOD_REPLACE, attribute)
        self.samdb.modify(message)

    def set_unchecked(self, dn, attribute, values):
        """Past Samba's own rules, as a domain may have become over the years."""
        partition = str(self.samdb.get_default_basedn()).upper()
        path = os.path.join(os.path.dirname(self.lp.samdb_url()), "sam.ldb.d", f"{partition}.ldb")
        message = ldb.Message(dn)
        message[attribute] = ldb.MessageElement(values, ldb.FLAG_MOD_REPLACE, attribute)
        ldb.Ldb(path).modify(message)

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

    def keytab(self, path, principal, *options):
        if os.path.exists(path):
            os.unlink(path)
        # Net.export_keytab aborts in a process that has written to the database (Samba 4.22).
        subprocess.run(
            ["samba-tool", "domain", "exportkeytab", path, "-s", self.smb_conf]
            + [f"--principal={principal}", *options],
            check=True,
        )
        os.chmod(path, 0o600)
