"""Who runs statements, and where: what a request of the SQL API names, until it ends."""

from dataclasses import dataclass, field

from names import parts, shown
from sqlerrors import Failed, forbidden, missing


@dataclass
class Session:
    accounts: object
    catalog: object
    account: str
    user: str
    role: str
    database: str | None = None
    schema: str | None = None
    warehouse: str | None = None
    parameters: dict = field(default_factory=dict)

    def full(self, name, length=3):
        """A name with the parts before it that the session has. `name` is text, or parts that are resolved."""
        found = parts(name) if isinstance(name, str) else list(name)
        before = [self.database, self.schema][: length - 1]
        lacking = before[: length - len(found)]
        if None in lacking:
            code, what = ("090106", "schema") if self.database else ("090105", "database")
            message = (
                f"This session does not have a current {what}. Call 'USE {what.upper()}', or use a qualified name."
            )
            raise Failed(code, "22000", f"Cannot perform operation. {message}")
        return (*lacking, *found)

    def need(self, privilege, kind, name):
        """Fails unless the role may do this to an object that is there."""
        if not self.accounts.may(self.role, privilege, kind, name):
            raise forbidden(kind, shown(*name[-1:]))

    def need_schema(self, name):
        """Fails unless database and schema of an object are there for the role."""
        for kind, there, length in (("Database", self.catalog.databases, 1), ("Schema", self.catalog.schemas, 2)):
            one = name[:length]
            # Whoever may use a database may look at what it tells about itself.
            granted = one[1:] == ("INFORMATION_SCHEMA",) or self.accounts.may(self.role, "USAGE", kind.upper(), one)
            if one not in there or not granted:
                raise missing(kind, shown(*one))

    def table(self, name, *privileges):
        """The table of this name, if the role may do all this with it."""
        name = self.full(name)
        self.need_schema(name)
        table = self.catalog.tables.get(name)
        if table is None or not self._visible("TABLE", name):
            raise missing("Object", shown(*name))
        for privilege in privileges:
            self.need(privilege, "TABLE", name)
        return table

    def sees(self, kind, name):
        """Whether an object is shown to the role."""
        return all(
            self.accounts.may(self.role, "USAGE", container, name[:length])
            for container, length in (("DATABASE", 1), ("SCHEMA", 2))
            if length < len(name)
        ) and self._visible(kind, name)

    def _visible(self, kind, name):
        accounts = self.accounts
        rights = {right for _, right, what, held in accounts.grants if what == kind and held == name}
        return any(accounts.may(self.role, right, kind, name) for right in rights or {"OWNERSHIP"})

    def need_warehouse(self):
        if self.warehouse is None:
            remedy = "Select an active warehouse with the 'use warehouse' command."
            raise Failed("000606", "57P03", f"No active warehouse selected in the current session.  {remedy}")

    def use(self, kind, name):
        """`USE ROLE r` and its like. `name` is text, or parts that are resolved."""
        length = 2 if kind == "SCHEMA" else 1
        found = self.full(name, length)
        user = self.accounts.user(self.user)
        if kind == "ROLE":
            if found[0] not in self.accounts.roles or user and found[0] not in user.roles:
                raise missing("Role", shown(*found))
            self.role = found[0]
        elif kind == "WAREHOUSE":
            if found not in self.catalog.warehouses or not self.accounts.may(self.role, "USAGE", kind, found):
                raise missing("Warehouse", shown(*found))
            self.warehouse = found[0]
        else:
            self.need_schema((*found, "PUBLIC") if length == 1 else found)
            self.database, self.schema = (*found, "PUBLIC") if length == 1 else found
