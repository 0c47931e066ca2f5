"""Training in several processes: the same losses and the same weights as in one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from palaestra.envs import BadInput
from palaestra.trainers.launched import LaunchFailed
from palaestra.trainers.objective import LAUNCH, CrossEntropy, FitReport, fit
from palaestra.trainers.sample import Sample

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

SHIPPED = Path(__file__).resolve().parents[2] / "examples" / "accelerate"
SHARDED = Path(__file__).resolve().parent / "sharded"


@pytest.fixture
def folder(llama: Callable[..., LlamaForCausalLM], tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Path:
    from palaestra.agents.models import save_model

    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    save_model(llama(), tokenizer, tmp_path / "start", name="start")
    return tmp_path / "start"


def weights(model: Path) -> dict[str, object]:
    from safetensors.torch import load_file

    return dict(load_file(model / "model.safetensors"))


def share_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the processes hold parts of the model, as the shipped configuration says."""
    import yaml

    shipped = yaml.safe_load((SHIPPED / "fsdp.yaml").read_text())
    assert shipped["distributed_type"] == "FSDP"
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    for key, value in shipped["fsdp_config"].items():
        monkeypatch.setenv(key.upper(), str(value).lower() if isinstance(value, bool) else str(value))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(SHARDED), *filter(None, [os.environ.get("PYTHONPATH")])]))


@pytest.mark.timeout(600)
def test_two_processes_follow_the_loss_curve_of_one_and_end_with_its_weights(
    folder: Path, samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with the whole model, and each with half of it. Five samples a step, so that the shares are never equal."""
    import torch

    config = CrossEntropy(epochs=3, batch=5, micro_tokens=64, learning_rate=1e-3)
    told: list[tuple[int, int, float]] = []
    reports: dict[str, FitReport] = {}
    for name, launch in (("one", ""), ("two", str(SHIPPED / "cpu.yaml")), ("halves", str(SHIPPED / "cpu.yaml"))):
        monkeypatch.setenv(LAUNCH, launch)
        if name == "halves":
            share_out(monkeypatch)
        told.clear()
        reports[name] = fit(folder, samples, config, tmp_path / name, seed=3, progress=lambda *step: told.append(step))
        assert [step[:2] for step in told] == [(number, 12) for number in range(1, 13)]
    one, alone, start = reports["one"], weights(tmp_path / "one"), weights(folder)
    assert one.losses[-1] < one.losses[0]
    assert any(not torch.equal(values, start[key]) for key, values in alone.items())  # type: ignore[arg-type]
    for name in ("two", "halves"):
        other = reports[name]
        assert other.losses == pytest.approx(one.losses, rel=1e-4)
        assert (other.samples, other.epochs, other.tokens_trained) == (one.samples, one.epochs, one.tokens_trained)
        assert other.version
        together = weights(tmp_path / name)
        assert alone.keys() == together.keys()
        for key, values in alone.items():
            assert isinstance(values, torch.Tensor)
            torch.testing.assert_close(together[key], values, rtol=1e-3, atol=1e-4)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")], "nothing is left behind"


def test_a_configuration_that_is_not_there_is_named(
    folder: Path, samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LAUNCH, "nowhere.yaml")
    with pytest.raises(BadInput, match=r"PALAESTRA_LAUNCH=nowhere\.yaml: there is no such file"):
        fit(folder, samples, CrossEntropy(), tmp_path / "out")


def test_what_accelerate_says_is_told_when_it_fails(
    folder: Path, samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("compute_environment: LOCAL_MACHINE\nnum_processes: 2\n")
    monkeypatch.setenv(LAUNCH, str(broken))
    with pytest.raises(LaunchFailed, match="`distributed_type` must be specified"):
        fit(folder, samples, CrossEntropy(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["cpu", "ddp", "fsdp"])
def test_the_shipped_configurations_are_ones_that_accelerate_reads(name: str) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(SHIPPED / f"{name}.yaml"))
    assert config.num_machines == 1
    assert config.distributed_type.value == ("FSDP" if name == "fsdp" else "MULTI_GPU")
    assert config.num_processes == (2 if name == "cpu" else 8)
