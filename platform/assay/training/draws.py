"""Where the random numbers of a training come from, and which of its steps a resumed training repeats identically."""

import secrets
from dataclasses import dataclass

from assay import seeds
from assay.recipes import Recipe
from assay.training.collective import Collective


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Seed of all random numbers of a training, and a name for it.

    With ``noise: entropy`` the seed is stored nowhere; its name is, so that a resumed training knows whether it repeats
    steps with the same numbers or with others. The name is drawn independently of the seed and tells nothing of it.
    """

    seed: int
    name: str

    @classmethod
    def from_entropy(cls) -> "Draws":
        """Returns a new seed from the operating system, with a new name."""
        return cls(seed=seeds.entropy(), name=secrets.token_hex(16))

    def shared(self, collective: Collective) -> "Draws":
        """Returns the first worker's draws.

        Args:
            collective: all workers.
        """
        return Draws(seed=collective.agree(self.seed), name=f"{collective.agree(int(self.name, 16)):032x}")


def draws_of(recipe: Recipe, seed: int, stage: str, collective: Collective, entropy: Draws | None = None) -> Draws:
    """Returns the draws of a training, the same on every worker.

    Args:
        recipe: says whether its noise is seeded or from entropy.
        seed: of the training, where it is seeded.
        stage: name of a stage before the last, which has random numbers of its own.
        collective: all workers.
        entropy: for noise from entropy; new ones by default.

    Returns:
        The draws. Those of a seeded training have an empty name.
    """
    if recipe.privacy is not None and recipe.privacy.noise == "entropy":
        return (Draws.from_entropy() if entropy is None else entropy).shared(collective)
    return Draws(seed=seeds.derive(seed, "stage", stage) if stage else seed, name="")
