#!/usr/bin/python3
"""Changes an account's password, and shows what the domain thinks of attempts to guess it.

    password.py SMB_CONF change ACCOUNT [KEYTAB]   a new random password; its keys into KEYTAB, which is replaced as a whole
    password.py SMB_CONF forget ACCOUNT KEYTAB     the same, and KEYTAB holds the new keys alone
    password.py SMB_CONF guessed ACCOUNT           how many wrong ones were tried (badPwdCount)
"""

import os
import secrets
import sys

import ldb

from samdb import Directory


def change(directory, account, keytab=None, *options):
    filter_ = f"(sAMAccountName={ldb.binary_encode(account)})"
    directory.samdb.setpassword(filter_, secrets.token_urlsafe(24) + "Aa1!")
    if keytab:
        realm = directory.lp.get("realm")
        directory.keytab(f"{keytab}.new", f"{account}@{realm}", *options)
        os.replace(f"{keytab}.new", keytab)


def forget(directory, account, keytab):
    change(directory, account, keytab, "--only-current-keys")


def guessed(directory, account):
    found = directory.samdb.search(
        base=directory.dn_of(account), scope=ldb.SCOPE_BASE, attrs=["badPwdCount"]
    )
    print(int(str(found[0].get("badPwdCount", ["0"])[0])))


def main():
    smb_conf, action, *rest = sys.argv[1:]
    directory = Directory(smb_conf)
    {"change": change, "forget": forget, "guessed": guessed}[action](directory, *rest)


main()
