"""Who asks: key-pair JWTs, programmatic access tokens, OAuth, and the scoped tokens that the streaming API takes."""

import base64
import secrets
import time
from dataclasses import dataclass
from urllib.parse import parse_qs

import jwt

from messages import Answer, Refusal

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
SUBJECT_TYPES = {
    "PROGRAMMATIC_ACCESS_TOKEN": "programmatic_access_token",
    "OAUTH": "urn:ietf:params:oauth:token-type:access_token",
}
# The longest life of a key-pair JWT, and how far its `iat` may lie in the future: seconds.
LONGEST_LIFE, LEEWAY = 3600, 60
ROLE = "session:role:"


@dataclass
class Identity:
    """A user with the role that the credential is for."""

    user: str
    role: str
    # The host that a scoped token is for; of others None. One without a scope is for both planes.
    scope: str | None = None
    expires: float = float("inf")


class Tokens:
    def __init__(self, accounts, settings):
        self._accounts, self._settings = accounts, settings
        self._secret = secrets.token_hex(32)
        # What was issued here and has not been expired by hand.
        self._scoped, self._oauth = {}, {}

    def now(self):
        return time.time() + self._settings.clock_ahead_s

    def expire(self):
        """All tokens that were issued here are no longer taken."""
        count = len(self._scoped) + len(self._oauth)
        self._scoped.clear()
        self._oauth.clear()
        return count

    def for_streaming(self, request, account_plane):
        """Who asks the streaming API. `account_plane` says whether a key-pair JWT will do as well."""
        token = bearer(request)
        if account_plane and _kind(request, token) == "KEYPAIR_JWT":
            return self._of_jwt(token)
        identity = self._live(self._scoped, token)
        if identity.scope not in (None, request.host):
            raise Refusal("390303", f"Invalid OAuth access token. It is for the host {identity.scope}")
        return identity

    def for_account(self, request):
        """Who asks the account's own API."""
        token = bearer(request)
        match _kind(request, token):
            case "KEYPAIR_JWT":
                return self._of_jwt(token)
            case "PROGRAMMATIC_ACCESS_TOKEN":
                return self._of_pat(token)
            case "OAUTH":
                if token in self._scoped and self._scoped[token].scope is None:
                    return self._live(self._scoped, token)
                return self._live(self._oauth, token)
            case kind:
                raise Refusal("390142", f"Unknown token type {kind}")

    # Issuing.

    def exchange(self, request):
        """`POST /oauth/token`: a scoped token for a credential."""
        form = _form(request)
        if "assertion" in form and "authorization" not in request.headers:
            request.headers["authorization"] = f"Bearer {form['assertion']}"
        token = bearer(request)
        kind = _kind(request, token)
        identity = self.for_account(request)
        grant = form.get("grant_type")
        wanted = JWT_BEARER if kind == "KEYPAIR_JWT" else EXCHANGE
        if grant != wanted or form.get("subject_token_type") not in (None, SUBJECT_TYPES.get(kind)):
            raise Refusal("390142", f"a {kind} is not exchanged with grant_type {grant!r}", 400)
        scope, role = self._scope(form.get("scope", ""), request, identity)
        return Answer.text(self._issue_scoped(identity.user, role, scope))

    def oauth(self, request):
        """The token-request endpoint: an OAuth access token for a client's id and secret."""
        form = _form(request)
        client, secret = form.get("client_id"), form.get("client_secret")
        if request.headers.get("authorization", "").startswith("Basic "):
            client, _, secret = base64.b64decode(request.headers["authorization"][6:]).decode().partition(":")
        if form.get("grant_type") not in ("client_credentials", "refresh_token"):
            return Answer.of(
                {"error": "unsupported_grant_type", "message": f"grant_type is {form.get('grant_type')}"}, 400
            )
        user = next((user for user in self._accounts.users.values() if client in user.clients), None)
        if user is None or user.clients[client] != secret:
            return Answer.of({"error": "invalid_client", "message": "This is an invalid client."}, 400)
        role = self._role(user, form.get("scope", "").removeprefix(ROLE))
        token = "ver:1-hint:1-ETMsDgAA" + secrets.token_urlsafe(48)
        life = self._settings.token_life_s
        self._oauth[token] = Identity(user.name, role, expires=self.now() + life)
        return Answer.of({"access_token": token, "token_type": "Bearer", "expires_in": life, "username": user.name})

    def _scope(self, text, request, identity):
        """Host and role of a scope: `HOST session:role:ROLE`, each optional."""
        host, role = None, identity.role
        for part in text.split():
            if part.startswith(ROLE):
                role = self._role(self._accounts.user(identity.user), part[len(ROLE) :])
            else:
                host = part
        if host not in (None, self._settings.ingest_host or request.host):
            raise Refusal("390142", f"The scope names {host}, which is not the ingest host", 400)
        return host, role

    def _issue_scoped(self, user, role, scope):
        expires = int(self.now() + self._settings.token_life_s)
        claims = {"sub": user, "role": role, "scope": scope, "exp": expires, "jti": secrets.token_hex(8)}
        token = jwt.encode(claims, self._secret, algorithm="HS256")
        self._scoped[token] = Identity(user, role, scope, expires)
        return token

    # Checking.

    def _live(self, issued, token):
        identity = issued.get(token)
        if identity is None or identity.expires <= self.now():
            raise Refusal("390303")
        return identity

    def _of_pat(self, token):
        for user in self._accounts.users.values():
            if token in user.pats:
                return Identity(user.name, user.default_role)
        raise Refusal("390303", "Programmatic access token is invalid.")

    def _of_jwt(self, token):
        try:
            claims = jwt.decode(token, options={"verify_signature": False, "verify_exp": False, "verify_iat": False})
            account, name, print_ = str(claims["iss"]).rsplit(".", 2)
            user = self._accounts.user(name)
            key = user and user.keys().get(print_)
            if account != self._settings.account or key is None or name != user.name:
                raise Refusal("390144", f"JWT token is invalid: nobody has the issuer {claims['iss']}")
            if claims.get("sub") != f"{account}.{name}":
                raise Refusal("390144", "JWT token is invalid: subject and issuer differ")
            # Milliseconds are taken too: the vendor's SDK writes them.
            seconds = [int(claims[when]) / (1000 if int(claims[when]) > 10**12 else 1) for when in ("iat", "exp")]
            jwt.decode(token, key, ["RS256"], options={"verify_exp": False, "verify_iat": False})
        except (jwt.PyJWTError, KeyError, TypeError, ValueError) as error:
            raise Refusal("390144", f"JWT token is invalid: {error!r}") from error
        issued, expires = seconds
        if not issued - LEEWAY <= self.now() < expires or expires - issued > LONGEST_LIFE:
            raise Refusal("390144", f"JWT token is invalid: from {issued} to {expires}, and it is {self.now():.0f}")
        role = str(claims.get("scp", "")).removeprefix(ROLE)
        return Identity(user.name, self._role(user, role), expires=expires)

    def _role(self, user, role):
        role = role.upper() or user.default_role
        if role not in user.roles:
            raise Refusal(
                "390189", f"Role '{role}' specified is not granted to the user {user.name}, or does not exist."
            )
        return role


def bearer(request):
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme != "Bearer" or not token:
        raise Refusal("390303", "The Authorization header bears no token.")
    return token


def _kind(request, token):
    """The kind of a token: as its header says, else as it looks."""
    looks = (
        "KEYPAIR_JWT"
        if token.startswith("ey")
        else "OAUTH"
        if token.startswith("ver:")
        else "PROGRAMMATIC_ACCESS_TOKEN"
    )
    return request.headers.get("x-snowflake-authorization-token-type", looks)


def _form(request):
    return {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
