"""The simulator finds bugs: each one of `plants.py` is found, and for what it is."""

import pytest

from tests.simulation.farm import Farm
from tests.simulation.plan import Plan
from tests.simulation.plants import PLANTS, Plant
from tests.simulation.world import Broken, World


def says(plant: Plant, seed: int) -> str | None:
    """What the simulator says of this seed with the bug in the machines."""
    try:
        Farm(seed, plant.focus(Plan.of(World(seed)))).run()
    except Broken as broken:
        return str(broken).partition("\n")[0]
    return None


@pytest.mark.parametrize("plant", [pytest.param(each, id=each.bug.__name__) for each in PLANTS])
def test_a_planted_bug_is_found(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant.bug(monkeypatch)
    others = []
    for seed in range(plant.seeds_max):
        text = says(plant, seed)
        if text is not None and plant.says in text:
            print(f"found in seed {seed}, after {len(others)} with other words: {text[:200]}")
            return
        others += [text] if text is not None else []
    pytest.fail(f"not found in {plant.seeds_max} seeds: {plant.bug.__doc__}\n" + "\n".join(others))
