"""What a spoken clip says of itself: that it is synthetic, what made it, and by what right."""

from dataclasses import dataclass
from importlib.metadata import version


@dataclass(frozen=True)
class Origin:
    """Who or what speaks."""

    variant: str
    """The variant's id; the base's is ``base``."""
    family: str
    provenance: str
    """By what right the voice is used; see :attr:`jobs.spec.data.DataSpec.provenance`."""
    model: str = ""
    """The registered model or the sweep, where there is one to name."""

    def row(self) -> dict[str, object]:
        """What ``clips.json`` says of each clip."""
        return {"synthetic": True, "variant": self.variant, "provenance": self.provenance}

    def tags(self) -> dict[str, str]:
        """The strings of an audio file, under libsndfile's names."""
        of = f"{self.model}, variant {self.variant}" if self.model else f"variant {self.variant}"
        return {
            "comment": f"Synthetic speech, not a recording: {of} of {self.family}.",
            "copyright": f"Provenance of the voice: {self.provenance}",
            "software": f"voxsweep {version('voxsweep')}",
        }
