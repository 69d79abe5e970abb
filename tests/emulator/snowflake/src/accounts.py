"""Users with their keys and secrets, roles, and what roles may do."""

import base64
import hashlib
import re

from cryptography.hazmat.primitives import serialization

from messages import Refusal

# They may do everything.
ADMINISTRATORS = {"ACCOUNTADMIN", "SYSADMIN", "SECURITYADMIN"}
PUBLIC = "PUBLIC"


class User:
    def __init__(self, name):
        self.name = name
        # What ALTER USER sets, by property: RSA_PUBLIC_KEY, DEFAULT_ROLE...
        self.properties = {}
        self.roles = {PUBLIC}
        # Programmatic access tokens.
        self.pats = set()
        # OAuth clients that act for this user: the secret of each id.
        self.clients = {}

    @property
    def default_role(self):
        return self.properties.get("DEFAULT_ROLE", PUBLIC)

    def keys(self):
        """The public keys that are registered, by fingerprint."""
        found = (self.properties.get(name) for name in ("RSA_PUBLIC_KEY", "RSA_PUBLIC_KEY_2"))
        return {fingerprint(key): public_key(key) for key in found if key}


def public_key(text):
    """The key of `RSA_PUBLIC_KEY`: PEM, with or without its first and last line."""
    try:
        der = base64.b64decode(re.sub(r"-----[A-Z ]+-----|\s", "", text), validate=True)
        return serialization.load_der_public_key(der)
    except ValueError as error:
        raise Refusal(
            "002028", "SQL compilation error:\nNew public key rejected by current policy. Reason: 'Invalid public key'"
        ) from error


def fingerprint(text):
    der = public_key(text).public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return "SHA256:" + base64.b64encode(hashlib.sha256(der).digest()).decode()


class Accounts:
    def __init__(self):
        self.users = {}
        # For each role, the roles that are granted to it.
        self.roles = {name: set() for name in [*ADMINISTRATORS, PUBLIC]}
        # (role, privilege, kind, name): what roles may do with objects.
        self.grants = {}

    def user(self, name):
        return self.users.get(name.upper())

    def change_user(self, name, told):
        """Makes a user or changes it, as the control port tells: see README.md."""
        told = dict(told)
        user = self.users.setdefault(name.upper(), User(name.upper()))
        if key := told.pop("public_key", None):
            user.properties["RSA_PUBLIC_KEY"] = key
            user.keys()
        if role := told.pop("default_role", None):
            user.properties["DEFAULT_ROLE"] = role.upper()
        for role in told.pop("roles", []):
            self.roles.setdefault(role.upper(), set())
            user.roles.add(role.upper())
        user.pats |= set(told.pop("pats", []))
        user.clients.update(told.pop("oauth_clients", {}))
        if told:
            raise Refusal("unknown", f"a user has no {', '.join(told)}")

    def held(self, role):
        """The role and all that it inherits."""
        found, waiting = {PUBLIC}, [role]
        while waiting:
            one = waiting.pop()
            if one not in found or one == role:
                found.add(one)
                waiting += self.roles.get(one, set()) - found
        return found

    def grant(self, role, privilege, kind, name):
        self.grants[role, privilege, kind, tuple(name)] = None

    def revoke(self, role, privilege, kind, name):
        self.grants.pop((role, privilege, kind, tuple(name)), None)

    def forget(self, kind, name):
        """Drops the grants on an object that is dropped, and on all in it."""
        name = tuple(name)
        gone = [
            grant
            for grant in self.grants
            if grant[3][: len(name)] == name and (len(grant[3]) > len(name) or grant[2] == kind)
        ]
        for grant in gone:
            del self.grants[grant]

    def may(self, role, privilege, kind, name):
        """Whether a role may do this, itself or by a role that it inherits."""
        held = self.held(role)
        if held & ADMINISTRATORS:
            return True
        wanted = {privilege, "OWNERSHIP", "ALL"}
        return any((one, right, kind, tuple(name)) in self.grants for one in held for right in wanted)
