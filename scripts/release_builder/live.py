"""Live artifacts (placeholder)."""

from .content import Content
from .metadata import Artifact
from .rawimage import Kit, RawImage
from .wrap import Target


def build_live(kit: Kit, target: Target, content: Content, metal: RawImage, metal4k: RawImage) -> list[Artifact]:
    """Placeholder."""
    raise NotImplementedError
