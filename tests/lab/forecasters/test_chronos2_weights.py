"""Chronos-2 from bytes and to bytes; adapters."""

import copy
import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from chronos import Chronos2Pipeline
from safetensors.torch import load, save

from lab.errors import CheckpointError, TrainingError
from lab.forecasters.chronos2_lora import adapter_files, apply_adapter, check_adapter
from lab.forecasters.chronos2_weights import (
    new_pipeline,
    read_pipeline,
    write_pipeline,
)
from tests.lab.forecasters.chronos2_models import (
    TINY,
    random_pipeline,
    small_files,
)


def predictions(pipeline):
    history = np.random.default_rng(0).standard_normal((2, 1, 100)).cumsum(axis=2)
    return torch.stack(pipeline.predict(history, prediction_length=40))


def test_what_is_written_reads_back_to_the_same_forecasts():
    files = write_pipeline(random_pipeline())
    again = read_pipeline(*files.values())
    assert torch.equal(predictions(again), predictions(random_pipeline()))
    assert write_pipeline(again) == files


def test_what_is_written_opens_in_the_package(tmp_path):
    for name, data in write_pipeline(random_pipeline()).items():
        (tmp_path / name).write_bytes(data)
    theirs = Chronos2Pipeline.from_pretrained(tmp_path, local_files_only=True)
    theirs.model.eval()
    assert torch.equal(predictions(theirs), predictions(random_pipeline()))


def test_what_the_package_saves_opens_here(tmp_path):
    random_pipeline().save_pretrained(tmp_path)
    files = [
        (tmp_path / name).read_bytes() for name in ("config.json", "model.safetensors")
    ]
    assert torch.equal(
        predictions(read_pipeline(*files)), predictions(random_pipeline())
    )


def test_a_seed_gives_the_same_weights_and_leaves_the_process_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    one, other = (write_pipeline(new_pipeline(TINY, seed=5)) for _ in range(2))
    assert one == other
    assert torch.equal(torch.rand(1), expected)
    assert one != write_pipeline(new_pipeline(TINY, seed=6))


def test_the_small_checkpoint_is_small():
    files = small_files()
    assert len(files["model.safetensors"]) < 2**20
    tensors = load(files["model.safetensors"])
    assert sum(one.numel() for one in tensors.values()) < 1_000_000


def changed(change):
    tensors = load(write_pipeline(random_pipeline())["model.safetensors"])
    change(tensors)
    return save(tensors)


def scaled(tensors):
    tensors["shared.weight"] = tensors["shared.weight"] * torch.inf


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda one: one.pop("shared.weight"), "lack shared.weight .1 missing"),
        (lambda one: one.update(extra=torch.zeros(1)), "unknown extra"),
        (
            lambda one: one.update({"shared.weight": torch.zeros(2, 3)}),
            r"shared.weight has shape \(2, 3\), config.json says \(2, 32\)",
        ),
        (scaled, "NaN or infinity"),
    ],
)
def test_weights_that_are_not_the_models_are_refused(change, match):
    config = write_pipeline(random_pipeline())["config.json"]
    with pytest.raises(CheckpointError, match=match):
        read_pipeline(config, changed(change))


@pytest.mark.parametrize("cut", [0, 4, 1000, -1])
def test_a_damaged_file_is_one_line(cut):
    config, weights = write_pipeline(random_pipeline()).values()
    with pytest.raises(CheckpointError, match=r"model\.safetensors: ") as caught:
        read_pipeline(config, weights[:cut])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "match"),
    [
        (b"{", "no JSON"),
        (b"[]", "no chronos_config"),
        (b"{}", "no chronos_config"),
        ({"architectures": ["T5Model"]}, "T5Model"),
        ({"chronos_config": {"quantiles": [0.5]}}, "0.1, 0.5 and 0.9 are needed"),
        ({"feed_forward_proj": "gated-gelu"}, "gated"),
        ({"d_model": "wide"}, "config.json: "),
    ],
)
def test_a_configuration_that_is_none_is_refused(config, match):
    files = write_pipeline(random_pipeline())
    if isinstance(config, dict):
        fields = json.loads(files["config.json"]) | config
        config = json.dumps(fields).encode()
    with pytest.raises(CheckpointError, match=match) as caught:
        read_pipeline(config, files["model.safetensors"])
    assert "\n" not in str(caught.value)


# --- adapters ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def adapter(adapted):
    return adapter_files(adapted)


@pytest.fixture(scope="module")
def adapted():
    """An adapter that was drawn, not trained."""
    from peft import LoraConfig, get_peft_model

    model = copy.deepcopy(random_pipeline().model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model = get_peft_model(
            model, LoraConfig(r=2, target_modules=["self_attention.q"])
        )
    generator = torch.Generator().manual_seed(0)
    for name, one in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(one, std=0.1, generator=generator)
    return Chronos2Pipeline(model=model.eval())


def test_an_adapter_is_merged_into_a_copy(adapted, adapter):
    base = random_pipeline()
    before = predictions(base)
    merged = apply_adapter(base, *adapter.values())
    torch.testing.assert_close(
        predictions(merged), predictions(adapted), rtol=1e-4, atol=1e-3
    )
    assert torch.equal(predictions(base), before)
    assert not torch.allclose(predictions(merged), before, rtol=1e-3)


def test_an_adapter_is_told_from_a_full_fine_tune(adapted):
    assert check_adapter(random_pipeline(), adapted) > 0
    with pytest.raises(TrainingError, match="every weight was tuned"):
        check_adapter(random_pipeline(), random_pipeline())


def test_training_may_change_the_adapter_only(adapted):
    wider = copy.deepcopy(adapted)
    wider.model.get_parameter("base_model.model.shared.weight").requires_grad = True
    with pytest.raises(TrainingError, match="trainable beside the adapter"):
        check_adapter(random_pipeline(), wider)
    moved = copy.deepcopy(adapted)
    moved.model.get_parameter("base_model.model.shared.weight").data += 1e-6
    with pytest.raises(TrainingError, match=r"LoRA changed the base's shared\.weight"):
        check_adapter(random_pipeline(), moved)


def test_an_adapter_of_another_base_is_refused(adapter):
    config = json.loads(adapter["adapter_config.json"])
    config["r"] = 4
    with pytest.raises(CheckpointError, match=r"lora_A.weight has shape"):
        apply_adapter(
            random_pipeline(),
            json.dumps(config).encode(),
            adapter["adapter_model.safetensors"],
        )
    config["target_modules"] = ["nowhere"]
    with pytest.raises(CheckpointError, match="nowhere"):
        apply_adapter(
            random_pipeline(),
            json.dumps(config).encode(),
            adapter["adapter_model.safetensors"],
        )


@pytest.mark.parametrize("config", [b"{", b"[]", b'{"peft_type": "IA3"}'])
def test_an_adapters_configuration_that_is_none_is_refused(adapter, config):
    with pytest.raises(CheckpointError, match="adapter_config"):
        apply_adapter(random_pipeline(), config, adapter["adapter_model.safetensors"])


BLOCKED = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "peft":
            raise ModuleNotFoundError("No module named 'peft'", name="peft")
sys.meta_path.insert(0, Blocker())
from lab.errors import TrainingError
from lab.forecasters.chronos2_lora import require_peft
try:
    require_peft()
except TrainingError as error:
    print(error)
"""


def test_without_peft_there_is_an_error_and_no_full_fine_tune():
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout.startswith("chronos2: LoRA needs the package peft"), done.stderr


LAZY = """
import sys
import lab.forecasters.chronos2, lab.forecasters.chronos2_inputs
import lab.forecasters.chronos2_lora, lab.forecasters.chronos2_training
import flows.checkpoints.chronos2, flows.checkpoints.chronos2_tuning
import flows.bodies.train_chronos2
print(sorted({"torch", "chronos", "transformers", "peft"} & set(sys.modules)))
"""


def test_nothing_heavy_is_imported_before_it_is_needed():
    done = subprocess.run(
        [sys.executable, "-c", LAZY], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
