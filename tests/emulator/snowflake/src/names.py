"""Names of objects, as SQL and paths write them."""

import re
from urllib.parse import unquote

from messages import Refusal

# One part of a name.
PART = r'"(?:[^"]|"")+"|[A-Za-z_][\w$]*'
# A name of one to three parts, for larger patterns.
NAME = rf"(?:{PART})(?:\.(?:{PART})){{0,2}}"


def resolve(part):
    """The name that `part` stands for: in quotes as it is, else in upper case."""
    return part[1:-1].replace('""', '"') if part.startswith('"') else part.upper()


def parts(name):
    """The parts of `a.b."c"`, resolved."""
    found = re.findall(PART, name)
    if ".".join(found) != name or len(found) > 3:
        raise Refusal("unknown", f"{name!r} is no name of one to three parts")
    return [resolve(part) for part in found]


def segment(text):
    """A segment of a path, which is percent-encoded."""
    return resolve(unquote(text))


def quote(*names):
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def shown(*names):
    """As the service writes names in messages: quoted only where they have to be."""
    return ".".join(name if re.fullmatch(r"[A-Z_][A-Z0-9_$]*", name) else quote(name) for name in names)
