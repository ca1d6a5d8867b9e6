"""What video diffusion families refuse, when they are built or loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightning_modules.policies.flow_adapters import FlowLora
from lightning_modules.policies.flow_networks import POLICIES
from tests.support.tiny_flows import FAMILIES


def test_a_module_without_an_original_name_is_refused_when_it_is_loaded(tmp_path: Path) -> None:
    family = FAMILIES["wan-ti2v"]
    policy = family.policy(
        str(family.save(tmp_path)), lora=FlowLora(r=2, targets="all-linear"), original_names=True, **family.settings
    )
    with pytest.raises(ValueError, match=r"original_names: condition_embedder\..* has no original name"):
        policy.load()
    with pytest.raises(ValueError, match="original_names is for adapters"):
        family.policy(str(tmp_path), original_names=True)


@pytest.mark.parametrize("name", ["ltx", "hunyuan15", "cogvideox"])
def test_a_checkpoint_of_another_family_is_refused_when_it_is_built(name: str, tmp_path: Path) -> None:
    family = FAMILIES[name]
    wan = FAMILIES["wan-ti2v"].save(tmp_path / "wan")
    with pytest.raises(
        ValueError,
        match=rf"holds a WanTransformer3DModel, this policy takes a {family.policy.transformer}; take WanPol",
    ):
        family.policy(str(wan))
    with pytest.raises(ValueError, match=rf"holds a {family.policy.transformer}, this policy takes a Wan"):
        FAMILIES["wan-ti2v"].policy(str(family.save(tmp_path / "own")))
    config = tmp_path / "own" / "transformer" / "config.json"
    config.write_text(config.read_text().replace(family.policy.transformer, "NewTransformer3DModel"))
    with pytest.raises(ValueError, match=rf"a NewTransformer3DModel, .* {family.policy.transformer}$"):
        family.policy(str(tmp_path / "own"))


def test_errors_name_every_familys_policy() -> None:
    named = {family.policy.transformer: family.policy.__name__ for family in FAMILIES.values()}
    assert named == POLICIES


def test_settings_that_a_checkpoint_contradicts_are_refused_when_it_is_built(tmp_path: Path) -> None:
    experts = FAMILIES["wan-both"].save(tmp_path / "experts")
    single = FAMILIES["wan-ti2v"].save(tmp_path / "single")
    cogvideox = FAMILIES["cogvideox"].save(tmp_path / "cogvideox")
    for path, settings, why in (
        (experts, {"image_to_video": True}, "image_to_video is for Wan2.2-TI2V-5B"),
        (single, {"transformer": "both"}, "no transformer_2/config.json at"),
    ):
        with pytest.raises(ValueError, match=why):
            FAMILIES["wan-both"].policy(str(path), **settings)
    with pytest.raises(ValueError, match=r"prompt_length is 40, .* is made for exactly 16 tokens"):
        FAMILIES["cogvideox"].policy(str(cogvideox), prompt_length=40)
    both = FAMILIES["wan-both"].policy(str(experts), transformer="both")
    with pytest.raises(ValueError, match="both is for one device and for DDP; under FSDP"):
        both.load(meta=True)
