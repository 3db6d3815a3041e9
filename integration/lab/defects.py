"""Service accounts that are each unfit to be the bridge's in one way, and back ends that each refuse in one way.

`add` makes them, `write_keytabs` exports their keys; both are called by domain.py.
"""

import os
import time

import ldb
from samba.dcerpc import security
from samba.dsdb import (
    UF_ACCOUNTDISABLE,
    UF_NORMAL_ACCOUNT,
    UF_NOT_DELEGATED,
    UF_TRUSTED_FOR_DELEGATION,
    UF_TRUSTED_TO_AUTHENTICATE_FOR_DELEGATION,
)
from samba.ndr import ndr_pack

REALM = "CORP.EXAMPLE"
DOMAIN = "corp.example"
RC4, AES = 0x4, 0x18
TRANSITION = UF_TRUSTED_TO_AUTHENTICATE_FOR_DELEGATION

# name: (encryption types, userAccountControl bits, has an SPN, has a delegation list)
BRIDGES = {
    "svc-nospn": (AES, TRANSITION, False, True),
    "svc-rc4": (RC4, TRANSITION, True, True),
    "svc-sensitive": (AES, TRANSITION | UF_NOT_DELEGATED, True, True),
    "svc-notransition": (AES, 0, True, True),
    "svc-nolist": (AES, TRANSITION, True, False),
    "svc-careless": (AES, TRANSITION | UF_TRUSTED_FOR_DELEGATION, True, True),
    "svc-protected": (AES, TRANSITION, True, True),
    # Its password changes after its keytab was written.
    "svc-oldkeys": (AES, TRANSITION, True, True),
    # A good one, for tests that disable it.
    "svc-leaver": (AES, TRANSITION, True, True),
    "svc-off": (AES, TRANSITION, True, True),
    "svc-mustchange": (AES, TRANSITION, True, True),
}

# Who may be delegated to by the account that the back end itself names: our bridge, and another.
RESOURCE_OURS = ("svc-resource", f"HTTP/resource.{DOMAIN}", "svc-bridge")
RESOURCE_OTHERS = ("svc-otherresource", f"HTTP/otherresource.{DOMAIN}", "svc-nolist")
# Two accounts have the SPN, which no tool would let happen.
TWICE = (("svc-twice1", "svc-twice2"), f"HTTP/twice.{DOMAIN}")

TWO_YEARS = 2 * 365 * 86400


def filetime(seconds):
    return str(int((seconds + 11_644_473_600) * 10_000_000))


def may_act(trustee):
    """A security descriptor that lets one account delegate to whom it stands on (MS-ADTS 6.1.4.9)."""
    descriptor = security.descriptor.from_sddl(f"O:BAD:(A;;CCDCLCSWRPWPDTLOCRSDRCWDWO;;;{trustee})", security.dom_sid())
    return ndr_pack(descriptor)


def add(directory, listed):
    """`listed`: the SPNs of the good bridge's delegation list."""
    samdb = directory.samdb
    listed = [*listed, TWICE[1]]
    for name, (enctypes, bits, has_spn, has_list) in BRIDGES.items():
        spn = f"HTTP/{name}.{DOMAIN}" if has_spn else None
        directory.add_account(name, f"{name}@{DOMAIN}", enctypes, bits, spn)
        if has_list:
            directory.set(directory.dn_of(name), "msDS-AllowedToDelegateTo", listed)
    directory.set_unchecked(
        directory.dn_of("svc-careless"), "pwdLastSet", [filetime(time.time() - TWO_YEARS)]
    )
    samdb.add_remove_group_members("Protected Users", ["svc-protected"])
    directory.set(
        directory.dn_of("svc-off"),
        "userAccountControl",
        [str(UF_NORMAL_ACCOUNT | UF_ACCOUNTDISABLE | TRANSITION)],
    )
    directory.set(
        directory.dn_of("svc-mustchange"), "userAccountControl", [str(UF_NORMAL_ACCOUNT | TRANSITION)]
    )
    directory.set(directory.dn_of("svc-mustchange"), "pwdLastSet", ["0"])

    for account, spn in (RESOURCE_OURS[:2], RESOURCE_OTHERS[:2]):
        directory.add_account(account, f"{account}@{DOMAIN}", AES, spn=spn)
    accounts, spn = TWICE
    for account in accounts:
        directory.add_account(account, f"{account}@{DOMAIN}", AES)
        directory.set_unchecked(directory.dn_of(account), "servicePrincipalName", [spn])
    sids = directory.sids()
    for account, _, trustee in (RESOURCE_OURS, RESOURCE_OTHERS):
        directory.set(
            directory.dn_of(account),
            "msDS-AllowedToActOnBehalfOfOtherIdentity",
            [may_act(sids[trustee])],
        )


def write_keytabs(directory, out):
    for name in BRIDGES:
        directory.keytab(os.path.join(out, f"{name}.keytab"), f"{name}@{REALM}")
    dn = ldb.binary_encode(str(directory.dn_of("svc-oldkeys")))
    directory.samdb.setpassword(f"(distinguishedName={dn})", "Another-Pass-1!" + os.urandom(8).hex())
