"""Image references: repository, tag and digest. Rules: the distribution project's grammar of references."""

from dataclasses import dataclass

_DEFAULT_REGISTRIES = ("docker.io", "index.docker.io")


@dataclass(frozen=True, slots=True)
class ImageReference:
    """A reference, with the registry and the folder that Docker adds to a short name.

    Attributes:
        repository: such as ``docker.io/library/nginx``.
        tag: empty where there is none; without a digest that means ``latest``.
        digest: such as ``sha256:…``; empty where there is none.
    """

    repository: str
    tag: str
    digest: str

    @property
    def path(self) -> str:
        """The repository without its registry."""
        return self.repository.partition("/")[2]

    @property
    def name(self) -> str:
        """The last part of the repository."""
        return self.repository.rpartition("/")[2]


def parse_image(image: str) -> ImageReference:
    """Reads a reference; any text is one."""
    name, _, digest = image.strip().partition("@")
    head, slash, last = name.rpartition("/")
    last, _, tag = last.partition(":")
    first, _, rest = (head + slash + last).partition("/")
    has_registry = bool(rest) and ("." in first or ":" in first or first == "localhost")
    registry, path = (first, rest) if has_registry else ("docker.io", head + slash + last)
    if registry in _DEFAULT_REGISTRIES:
        registry, path = "docker.io", path if "/" in path else f"library/{path}"
    return ImageReference(f"{registry}/{path}", tag if tag or digest else "latest", digest)


def is_same_image(planned: str, found: str) -> bool:
    """Whether a reference means the planned image: another spelling of it, or its tag pinned to a digest.

    Another registry, and a digest without the tag, are another image as far as names can tell.
    """
    if planned == found:
        return True
    one, other = parse_image(planned), parse_image(found)
    if one.repository != other.repository:
        return False
    if one.digest and other.digest:
        return one.digest == other.digest
    return one.tag == other.tag and (not one.digest or not other.digest) and bool(one.tag)


def has_same_repository(one: str, other: str) -> bool:
    """Whether two references name versions of one program: the same path in a repository, in whatever registry."""
    return parse_image(one).path == parse_image(other).path


def is_rewritten(found: str, requested: str) -> bool:
    """Whether an image may be what a webhook made of another: the same name in any registry and folder, and no other
    tag or digest."""
    one, other = parse_image(found), parse_image(requested)
    if one.name != other.name:
        return False
    if one.digest and other.digest:
        return one.digest == other.digest
    return not one.tag or one.tag == other.tag
