import pytest
import torch

from scdm_qgis.core import noise as noise_module
from scdm_qgis.core.noise import FEWEST_MATCHED, START, PlacedNoise, balance, philox

# Known-answer vectors published with Random123 (philox 4x32, 10 rounds).
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_philox_known_answers(counter, key, words):
    assert tuple(int(word) for word in philox(tuple(torch.tensor([c]) for c in counter), key)) == words


def noise(origin=(0, 0), seed=1, stage=1, draw=0, bands=6, height=40, width=50):
    return PlacedNoise(seed, stage, draw, [origin], bands, height, width)


def test_overlapping_tiles_see_the_same_noise():
    whole = noise()(17)
    part = noise(origin=(5, 9), height=20, width=30)(17)
    assert torch.equal(part, whole[:, :, 5:25, 9:39])


def test_a_batch_is_its_tiles():
    batch = PlacedNoise(1, 1, 0, [(0, 0), (5, 9)], 6, 20, 30)(3)
    assert torch.equal(batch[1:], noise(origin=(5, 9), height=20, width=30)(3))


def test_seed_stage_draw_step_and_band_all_matter():
    fields = [noise()(3), noise(seed=2)(3), noise(stage=2)(3), noise(draw=1)(3), noise()(4)]
    for i, first in enumerate(fields):
        for second in fields[i + 1 :]:
            assert abs(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1]) < 0.05
    bands = torch.corrcoef(noise(height=100, width=100)(3)[0].flatten(1))
    assert (bands - torch.eye(6)).abs().max() < 0.05


def test_it_is_standard_normal():
    values = noise(height=300, width=300, bands=8)(5).double().flatten()
    assert values.mean().item() == pytest.approx(0, abs=0.005)
    assert values.var().item() == pytest.approx(1, abs=0.01)
    assert (values**4).mean().item() == pytest.approx(3, abs=0.05)
    assert torch.isfinite(values).all()


def test_bands_made_in_pieces_are_the_same(monkeypatch):
    whole = noise(bands=23)(START)
    monkeypatch.setattr(noise_module, "COUNTERS_AT_ONCE_ON_CPU", 2 * 40 * 50 + 1)
    assert torch.equal(noise(bands=23)(START), whole)
    monkeypatch.setattr(noise_module, "COUNTERS_AT_ONCE_ON_CPU", 1)
    assert torch.equal(noise(bands=23)(START), whole)


def balanced(draws, **options):
    """Return the balanced starts of several draws (draw, tile, band, row, column)."""
    return torch.stack([one(START) for one in balance([noise(draw=draw, **options) for draw in range(draws)])])


@pytest.mark.parametrize("draws", [2, 3, 4, 8])
def test_balanced_starts_add_up_to_nothing_and_have_deviation_1(draws):
    starts = balanced(draws).double()
    assert starts.mean(dim=0).abs().max() < 1e-4
    deviations = starts.std(dim=0, correction=0)
    assert starts.std(correction=0).item() == pytest.approx(1, abs=0.02)
    assert ((deviations - 1).abs().max() < 1e-3) == (draws >= FEWEST_MATCHED)
    correlation = torch.corrcoef(starts.flatten(1))
    assert torch.allclose(correlation[0, 1:], torch.tensor(-1 / (draws - 1)).double(), atol=0.03)


@pytest.mark.parametrize("draws", [2, 3, 4])
def test_a_rounding_error_of_one_start_stays_one(draws):
    """Machines differ in the last bit, and must draw the same: also where starts are nearly the same."""
    alone = [noise(draw=draw, height=200, width=200) for draw in range(draws)]
    moved = [lambda step: alone[0](step) * (1 + 2e-7), *alone[1:]]
    starts, others = (torch.stack([one(START) for one in balance(of)]) for of in (alone, moved))
    assert (starts - others).abs().max() < 1e-3


def test_many_balanced_starts_are_nearly_normal():
    starts = balanced(8).double()
    # Directions of seven dimensions: 3 x 7 / (7 + 2), of normal numbers 3.
    assert (starts**4).mean().item() == pytest.approx(3 * 7 / 9, abs=0.05)


def test_balanced_starts_belong_to_their_place():
    assert torch.equal(balanced(4, origin=(5, 9), height=20, width=30), balanced(4)[..., 5:25, 9:39])


def test_only_starts_are_balanced():
    alone = [noise(draw=draw) for draw in range(3)]
    for one, balanced in zip(alone, balance(alone)):
        assert torch.equal(one(7), balanced(7))
        assert not torch.allclose(one(START), balanced(START), atol=0.1)
