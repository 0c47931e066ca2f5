"""Which data sets there are: addresses, sizes, sums, licences. Nothing here touches the network or the disk.

Every address is one that the data's own project names in its download script or holds in its repository at a fixed
commit. A file without a known sum is marked as such: its sum is recorded at the first download.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from palaestra.envs.datasets import alfworld, tau_bench
from palaestra.envs.errors import BadInput

_RAW = "https://raw.githubusercontent.com"


@dataclass(frozen=True)
class Upstream:
    """One file as its project distributes it.

    Attributes:
        name: what it is called in the data folder.
        url: its public address.
        size: bytes; None where nobody here could look.
        sha256: its sum; None where it is not known.
        path: where it lies in a clone of its project, for `--from FOLDER`; empty where it is in none.
        sum_from: how the sum is known: "content" (computed from the file itself), or "published" (several public
            projects that use the file state this same sum; the file itself could not be reached when this was written).
    """

    name: str
    url: str
    size: int | None = None
    sha256: str | None = None
    path: str = ""
    sum_from: str = "content"

    @property
    def pinned(self) -> str:
        """How its content is made sure, in words."""
        if self.sha256 is None:
            return "not pinned; the sum is recorded at the first download"
        return "sha256" if self.sum_from == "content" else "sha256, as published by other users of the file"


@dataclass(frozen=True)
class DataSet:
    """A data set: a folder of files that environments look for by its name.

    Attributes:
        name: of the folder.
        summary: one line on what it is.
        licence: its name, in a few words.
        terms: what is shown before the first download.
        files: what is fetched.
        provides: files that the finished folder holds, without `.xz` or `.gz`: what `data_folder` is asked for.
        convert: makes the files of the folder (second path) of the fetched ones (first path); None keeps these.
    """

    name: str
    summary: str
    licence: str
    terms: str
    files: tuple[Upstream, ...]
    provides: tuple[str, ...]
    convert: Callable[[Path, Path], None] | None = None

    @property
    def size(self) -> int | None:
        """Bytes that are fetched; None if a size is not known."""
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)


def find(name: str) -> DataSet:
    """A data set by name. Raises BadInput with the nearest names."""
    if name in CATALOGUE:
        return CATALOGUE[name]
    near = difflib.get_close_matches(name, CATALOGUE, n=2, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise BadInput(f"unknown data set {name!r}; {hint}`palaestra data list` names all {len(CATALOGUE)}")


# WebShop: the file ids stand in setup.sh of github.com/princeton-nlp/WebShop at 64fa2a5; the address is the one to
# which drive.google.com/uc?id=... leads after its question about large files.
_WEBSHOP = "princeton-nlp/WebShop/64fa2a5c15c7daa698b9ac93f5bb5437b634c9bd"
_WEBSHOP_TERMS = """\
WebShop (Yao et al., arXiv 2207.01206). The code and the instructions are MIT (Princeton NLP). The product titles,
descriptions and image addresses were collected from Amazon.com by WebShop's authors; their licence does not cover that
text and nobody here can license it. Use it for research, and decide yourself whether you may pass it on."""


def _drive(name: str, id: str, size: int, sha256: str, sum_from: str = "published") -> Upstream:
    url = f"https://drive.usercontent.google.com/download?id={id}&export=download&confirm=t"
    return Upstream(name, url, size, sha256, sum_from=sum_from)


def _raw(root: str, *files: tuple[str, int | None, str | None]) -> tuple[Upstream, ...]:
    """Files of a repository at a commit (`OWNER/NAME/COMMIT`): path, bytes and sha256 of each."""
    return tuple(
        Upstream(path.split("/")[-1], f"{_RAW}/{root}/{path}", size, sha256, path) for path, size, sha256 in files
    )


_HUMAN_INSTRUCTIONS = _drive(
    "items_human_ins.json",
    "14Kb5SPBk_jfdLZ_CDBNitW98QLDlKR5O",
    5_137_548,
    "cf78667548a71786e1d9049c24b802e48e1084ad4bb021cae56ce1f6d96954a3",
)
_WEBSHOP_LICENCE = Upstream(
    "LICENSE.WebShop.md",
    f"{_RAW}/{_WEBSHOP}/LICENSE.md",
    1_094,
    "8872dbf8660b00890b5e07ce1ea1f7a44fa7ae4e1857da56caba172b51dab3cb",
    "LICENSE.md",
)

_SETS = (
    DataSet(
        "webshop",
        "WebShop's 1,000 products with attributes, synthetic and human instructions",
        "MIT; product text not licensed",
        _WEBSHOP_TERMS,
        (
            _drive(
                "items_shuffle_1000.json",
                "1EgHdxQ_YxqIQlvvq5iKlCrkEKR6-j0Ib",
                4_467_013,
                "30a4765c3a327af72d9a9a95a6b2486d516f0fa1d3ecd83681901ce82a21b269",
            ),
            _drive(
                "items_ins_v2_1000.json",
                "1IduG0xl544V_A_jv3tHXC0kyFi7PnyBu",
                147_099,
                "f88a36314a397b53b3d9c3fa5878e5f7b26d35019a51ec83fbedeca61a948f6f",
                "content",
            ),
            _HUMAN_INSTRUCTIONS,
            _WEBSHOP_LICENCE,
        ),
        ("items_shuffle_1000.json", "items_ins_v2_1000.json", "items_human_ins.json"),
    ),
    DataSet(
        "webshop_full",
        "WebShop's 1.18 million products with attributes, synthetic and human instructions",
        "MIT; product text not licensed",
        _WEBSHOP_TERMS,
        (
            _drive(
                "items_shuffle.json",
                "1A2whVgOO0euk5O13n2iYDM0bQRkkRduB",
                5_479_720_229,
                "2ef591d65df3af89e972ab72468eb82cbf124d876552d9f3678667edd620a6c8",
            ),
            _drive(
                "items_ins_v2.json",
                "1s2j6NgHljiZzQNL3veZaAiyW_qDEgBNi",
                186_295_270,
                "1d36af476bdb8f82a5da62bd8acdabe54cd8de2fa84010d37da5c4890feb447e",
            ),
            _HUMAN_INSTRUCTIONS,
            _WEBSHOP_LICENCE,
        ),
        ("items_shuffle.json", "items_ins_v2.json", "items_human_ins.json"),
    ),
    DataSet(
        "webshop_human",
        "WebShop's 12,087 human instructions as texts, and the first searches of humans",
        "MIT",
        "WebShop (Yao et al., arXiv 2207.01206), MIT (Princeton NLP). Instructions written by paid annotators.",
        (
            *_raw(
                _WEBSHOP,
                (
                    "baseline_models/data/human_goals.json",
                    999_419,
                    "b68746ed66cd31fdc5f70eb3f5831a46b38163563b57a66ddcab8fd60ee0cbdc",
                ),
                (
                    "baseline_models/data/goal_query_map.json",
                    244_809,
                    "1524f438ffbc51c7e308e635d7d9e14fa696b08f5d4300922d454ef0105cea86",
                ),
            ),
            _WEBSHOP_LICENCE,
        ),
        ("human_goals.json", "goal_query_map.json"),
    ),
    # The addresses stand in scripts/alfworld-download of github.com/alfworld/alfworld; the games are those of release
    # 0.4.0 (at 1fa7e68), which published results used: later ones carry another grammar, with other texts.
    DataSet(
        "alfworld",
        "ALFWorld's text games: 3,553 or 3,554 train, 140 valid_seen, 134 valid_unseen",
        "MIT",
        """\
ALFWorld (Shridhar et al., arXiv 2010.03768), MIT; the tasks' annotations are ALFRED's (Shridhar et al., 2020), MIT.
Only data is fetched. The original engine is another matter: the extra that installs it as a referee builds a planner
under the GPL.""",
        (
            Upstream(
                alfworld.GAMES,
                "https://github.com/alfworld/alfworld/releases/download/0.4.0/json_2.1.2_tw-pddl.zip",
                36_493_542,
            ),
            Upstream(
                alfworld.TASKS,
                "https://github.com/alfworld/alfworld/releases/download/0.2.2/json_2.1.1_json.zip",
                72_018_818,
            ),
        ),
        tuple(f"alfworld_{split}.tar" for split in alfworld.SPLITS),
        alfworld.convert,
    ),
    DataSet(
        "humaneval",
        "HumanEval: 164 programming problems with tests",
        "MIT",
        "HumanEval (Chen et al., arXiv 2107.03374), MIT (OpenAI). Its programs are meant to be run: use a sandbox.",
        _raw(
            "openai/human-eval/6d43fb980f9fee3c892a914eda09951f772ad10d",
            (
                "data/HumanEval.jsonl.gz",
                44_877,
                "b796127e635a67f93fb35c04f4cb03cf06f38c8072ee7cee8833d7bee06979ef",
            ),
            ("LICENSE", 1_083, "bcba3de214851cce46ed5af42d6698044616eeace887c3231bc7a20474ab639e"),
        ),
        ("HumanEval.jsonl",),
    ),
    DataSet(
        "mbpp",
        "MBPP: 974 basic Python problems with tests, and the 427 of them that were verified by hand",
        "CC BY 4.0",
        """\
MBPP (Austin et al., "Program Synthesis with Large Language Models", arXiv 2108.07732), CC BY 4.0 (Google Research):
name the authors where you pass it on. Its programs are meant to be run: use a sandbox.""",
        _raw(
            "google-research/google-research/4700efb9afa54286b0e04473ba80a13e8461e25f",
            ("mbpp/mbpp.jsonl", 563_743, "ccf64ceae9c5403bf50a044cb6d505bfd2a2963ee58338ba268fd65beab92a9f"),
            ("mbpp/sanitized-mbpp.json", None, None),
        ),
        ("mbpp.jsonl", "sanitized-mbpp.json"),
    ),
    DataSet(
        "tau_bench",
        "tau-bench: retail and airline databases, policies, tasks and tool schemas",
        "MIT",
        """\
tau-bench (Yao et al., arXiv 2406.12045), MIT (Sierra). Data only: the project's Python files of tasks, rules and tools
are parsed into JSON, never run, and deleted. Its authors point to tau2-bench for corrected tasks.""",
        tuple(
            Upstream(tau_bench.flat_name(path), f"{_RAW}/{tau_bench.REPOSITORY}/{path}", size, sha256, path)
            for path, size, sha256 in tau_bench.upstream_files()
        ),
        tau_bench.PROVIDES,
        tau_bench.convert,
    ),
)

CATALOGUE: dict[str, DataSet] = {each.name: each for each in _SETS}
"""Name -> data set."""
