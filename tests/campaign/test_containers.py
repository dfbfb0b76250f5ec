"""What a campaign starts in a container is what is rendered, under a name of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from leadline.campaign.containers import contain
from leadline.campaign.run import name_owner
from leadline.errors import SpecError
from leadline.render.select import describe_services
from leadline.spec import Campaign, read_campaign

SCOUT = Path(__file__).parents[2] / "examples" / "scout" / "scout.yaml"
BARE: dict[str, Any] = {
    "name": "bare",
    "model": "smollm2",
    "deployments": {"one": {"engine": "llamacpp", "target": {"kind": "docker", "image": "i:1"}}},
}


def contained(campaign: Campaign) -> Any:
    (pair,) = campaign.starts().items()
    return contain(campaign, *pair)


def test_a_planned_container_is_the_rendered_one() -> None:
    campaign = read_campaign(SCOUT)
    for key, cells in campaign.starts().items():
        services, _ = describe_services(campaign, [key.split("/")[0]], try_infeasible=True)
        found = contain(campaign, key, cells)
        assert found.service in services


def test_a_container_of_a_run_has_a_name_of_its_own_and_is_not_waited_for_long() -> None:
    campaign = read_campaign(SCOUT)
    key, cells = next(iter(campaign.starts().items()))
    found = contain(campaign, key, cells)
    service = found.service.of_run("20261122-164530-20970d")
    launch = service.launch(18000)
    assert launch.port == 18000
    assert launch.container
    assert launch.container.name == f"{found.service.name[:40]}-20261122-164530-20970d"
    assert len(launch.container.name) <= 63
    assert launch.container.stop_s <= 30
    assert [volume.source for volume in launch.container.volumes] == [
        volume.source for volume in found.service.mounts()
    ]


def test_without_hardware_the_image_the_program_and_the_model_are_all(tmp_path: Path) -> None:
    model = tmp_path / "m.gguf"
    model.touch()
    found = contained(Campaign.model_validate({**BARE, "model": str(model)}))
    launch = found.service.launch(8000)
    container = launch.container
    assert container
    assert (container.image, found.service.start, found.refusal) == ("i:1", None, None)
    assert [(v.source, v.path, v.read_only) for v in container.volumes] == [
        (str(model), str(model), True)
    ]
    assert "0.0.0.0" in launch.argv  # noqa: S104
    assert launch.base_url == "http://127.0.0.1:8000"


def test_without_hardware_and_image_nothing_can_be_started() -> None:
    campaign = {**BARE, "deployments": {"one": {"engine": "llamacpp", "target": "docker"}}}
    with pytest.raises(SpecError, match="no plan names its image"):
        contained(Campaign.model_validate(campaign))


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("shm_size", "16", "is not a size"),
        ("volumes", ["/data"], "is not a mount"),
        ("volumes", ["/data:inside"], "is not a mount"),
        ("port", 0, "greater than or equal to 1"),
        ("pull", "sometimes", "missing"),
    ],
)
def test_what_cannot_be_meant_is_refused(field: str, value: Any, said: str) -> None:
    target = {"kind": "docker", "image": "i:1", field: value}
    deployments = {"one": {"engine": "llamacpp", "target": target}}
    with pytest.raises(ValueError, match=said):
        Campaign.model_validate({**BARE, "deployments": deployments})


def test_runs_of_one_second_have_different_owners() -> None:
    facts = {"id": "20261122-164530", "started": "a", "digest": "d", "seed": 1}
    assert name_owner(facts) != name_owner(facts | {"seed": 2})
    assert name_owner(facts).startswith("20261122-164530-")
