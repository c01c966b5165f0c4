"""The town plan of the demo scene: blocks between roads, and what stands on them.

A plan is a list of rectangles and ellipses with a material and a height, in pixels of a plane that is
larger than the scene and is later turned and slightly bent into it. Later shapes lie on earlier ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Dict, Iterator, List, Tuple

import numpy as np

from scdm_qgis.engine.demo_spectra import MATERIALS

WILD = len(MATERIALS)
"""Label of wild land: meadow, dry grass, soil or wood, as the smooth fields of the scene have it."""

MAIN_ROAD = MATERIALS.index("asphalt")

_LAND_USES = ("houses", "houses", "houses", "works", "works", "fields", "fields", "park", "park", "sports")
_MAIN_ROAD_WIDTH = 9.0
_STREET_WIDTH = 5.0


@dataclass(frozen=True)
class Shape:
    """A rectangle or ellipse of one material.

    Args:
        u, v: its centre.
        half_u, half_v: half its sides, or its radii.
        material: index into MATERIALS, or WILD.
        height: metres above the ground, which is what casts shadows.
        brightness: factor on the reflectance.
        variant: 0 to 1, from one end of the material's variation to the other.
        ellipse: an ellipse instead of a rectangle.
        stripes: distance of the rows of a crop in pixels; 0 for none.
    """

    u: float
    v: float
    half_u: float
    half_v: float
    material: int
    height: float = 0.0
    brightness: float = 1.0
    variant: float = 0.5
    ellipse: bool = False
    stripes: float = 0.0


@dataclass(frozen=True)
class _Block:
    u: float
    v: float
    half_u: float
    half_v: float

    def inset(self, margin: float) -> _Block:
        return _Block(self.u, self.v, max(self.half_u - margin, 1.0), max(self.half_v - margin, 1.0))

    def halves(self, share: float, gap: float) -> Tuple[_Block, _Block]:
        """Cut across the longer side, leaving a gap in between."""
        along_u = self.half_u >= self.half_v
        half = self.half_u if along_u else self.half_v
        first, second = (2 * half - gap) * share / 2, (2 * half - gap) * (1 - share) / 2
        if along_u:
            return (
                _Block(self.u - half + first, self.v, first, self.half_v),
                _Block(self.u + half - second, self.v, second, self.half_v),
            )
        return (
            _Block(self.u, self.v - half + first, self.half_u, first),
            _Block(self.u, self.v + half - second, self.half_u, second),
        )

    def place(self, rng: np.random.Generator, margin: float) -> Tuple[float, float]:
        """Return a random point at least `margin` from the sides, or the centre where there is none."""
        reach_u, reach_v = max(self.half_u - margin, 0.0), max(self.half_v - margin, 0.0)
        return self.u + rng.uniform(-reach_u, reach_u), self.v + rng.uniform(-reach_v, reach_v)


def make_plan(side: float, rng: np.random.Generator) -> List[Shape]:
    """Return the shapes of a square plane from -side / 2 to side / 2, in the order they lie on each other.

    What no shape covers is main road.
    """
    shapes: List[Shape] = []
    quarters = list(_split(_Block(0.0, 0.0, side / 2, side / 2), 230.0, _MAIN_ROAD_WIDTH, rng))
    shapes.extend(_fill(quarter, "worn asphalt", rng) for quarter in quarters)
    blocks = [block for quarter in quarters for block in _split(quarter, 105.0, _STREET_WIDTH, rng)]
    blocks.sort(key=lambda block: block.u**2 + block.v**2)  # so that the middle has every land use
    deck: List[str] = []
    for block in blocks:
        deck = deck or list(rng.permutation(_LAND_USES))
        shapes.append(_fill(block, "concrete", rng))
        shapes.extend(_BUILDERS[deck.pop()](block.inset(1.5), rng))
    return shapes


def _split(block: _Block, longest: float, gap: float, rng: np.random.Generator) -> Iterator[_Block]:
    if 2 * max(block.half_u, block.half_v) <= longest * rng.uniform(0.8, 1.2):
        yield block
        return
    for half in block.halves(rng.uniform(0.38, 0.62), gap):
        yield from _split(half, longest, gap, rng)


def _fill(block: _Block, material: str, rng: np.random.Generator, stripes: float = 0.0) -> Shape:
    return Shape(
        block.u,
        block.v,
        block.half_u,
        block.half_v,
        MATERIALS.index(material),
        brightness=rng.uniform(0.94, 1.06),
        variant=rng.uniform(0.1, 0.9),
        stripes=stripes,
    )


def _roof(
    u: float,
    v: float,
    half_u: float,
    half_v: float,
    material: str,
    height: float,
    rng: np.random.Generator,
    slope: float,
) -> List[Shape]:
    """Two roof slopes along the longer side, one turned to the sun and one away from it."""
    variant, brightness = rng.uniform(0, 1), rng.uniform(0.92, 1.08)
    along_u = half_u >= half_v
    sides = []
    for sign in (-1, 1):
        centre = (u, v + sign * half_v / 2) if along_u else (u + sign * half_u / 2, v)
        halves = (half_u, half_v / 2) if along_u else (half_u / 2, half_v)
        lit = brightness * (1 - sign * slope)
        sides.append(Shape(*centre, *halves, MATERIALS.index(material), height, lit, variant))
    return sides


def _tree(u: float, v: float, rng: np.random.Generator, conifer_share: float = 0.25) -> Shape:
    radius = rng.uniform(1.6, 3.6)
    material = "conifer" if rng.uniform() < conifer_share else "broadleaf tree"
    return Shape(
        u,
        v,
        radius,
        radius * rng.uniform(0.85, 1.15),
        MATERIALS.index(material),
        height=2.0 * radius,
        brightness=rng.uniform(0.85, 1.15),
        variant=rng.uniform(0, 1),
        ellipse=True,
    )


def _trees(block: _Block, pixels_a_tree: float, rng: np.random.Generator) -> List[Shape]:
    count = int(4 * block.half_u * block.half_v / pixels_a_tree)
    return [_tree(*block.place(rng, 2.0), rng) for _ in range(count)]


def _houses(block: _Block, rng: np.random.Generator) -> List[Shape]:
    shapes = []
    for plot in _split(block, 26.0, 0.5, rng):
        garden = "grass" if rng.uniform() < 0.8 else "dry grass"
        shapes.append(_fill(plot, garden, rng))
        if min(plot.half_u, plot.half_v) < 6:
            shapes.extend(_trees(plot, 40, rng))
            continue
        half_u, half_v = rng.uniform(3.2, 0.6 * plot.half_u + 1), rng.uniform(3.2, 0.6 * plot.half_v + 1)
        u, v = plot.place(rng, max(half_u, half_v) + 1)
        shapes.extend(_trees(plot, 110, rng))
        drive = Shape(u, plot.v + plot.half_v / 2, 1.5, plot.half_v / 2, MATERIALS.index("concrete"))
        roof = str(rng.choice(["red tiles", "grey roof", "blue roof"], p=[0.62, 0.28, 0.10]))
        variant_height = rng.uniform(4, 7)
        shapes.append(drive)
        shapes.extend(_roof(u, v, half_u, half_v, roof, variant_height, rng, slope=0.13))
    return shapes


def _works(block: _Block, rng: np.random.Generator) -> List[Shape]:
    yard = "worn asphalt" if rng.uniform() < 0.5 else "concrete"
    shapes = [_fill(block, yard, rng)]
    for plot in _split(block.inset(3.0), 60.0, 8.0, rng):
        roof = str(rng.choice(["metal roof", "grey roof", "blue roof", "asphalt"], p=[0.35, 0.25, 0.25, 0.15]))
        half_u, half_v = plot.half_u * rng.uniform(0.55, 0.85), plot.half_v * rng.uniform(0.55, 0.85)
        shapes.extend(_roof(plot.u, plot.v, half_u, half_v, roof, rng.uniform(5, 10), rng, slope=0.03))
        for _ in range(8):
            paint = str(rng.choice(["metal roof", "blue roof", "red tiles", "asphalt"]))
            u, v = plot.u + plot.half_u * rng.uniform(-1, 1), plot.v + plot.half_v - 1.5
            shapes.append(Shape(u, v, 1.0, 2.0, MATERIALS.index(paint), 1.0, variant=rng.uniform(0, 1)))
    return shapes


def _fields(block: _Block, rng: np.random.Generator) -> List[Shape]:
    shapes = [_fill(block, "dry grass", rng)]
    for field in _split(block, 60.0, 1.5, rng):
        cover = str(rng.choice(["crop", "crop", "dry grass", "bright soil", "dark soil"]))
        shapes.append(_fill(field, cover, rng, stripes=rng.uniform(5, 9)))
    return shapes


def _park(block: _Block, rng: np.random.Generator) -> List[Shape]:
    wild = Shape(block.u, block.v, block.half_u, block.half_v, WILD)
    path = Shape(block.u, block.v, block.half_u, 1.2, MATERIALS.index("bright soil"), variant=rng.uniform(0, 1))
    pond_u, pond_v = block.half_u * rng.uniform(0.25, 0.45), block.half_v * rng.uniform(0.25, 0.45)
    centre = block.place(rng, max(pond_u, pond_v) + 2)
    pond = Shape(*centre, pond_u, pond_v, MATERIALS.index("water"), variant=rng.uniform(0, 1), ellipse=True)
    return [wild, path, *_trees(block, 160, rng), pond]


def _sports(block: _Block, rng: np.random.Generator) -> List[Shape]:
    pitch = block.inset(9.0)
    shapes = [_fill(block, "grass", rng), *_trees(block, 90, rng)]
    shapes.append(_fill(block.inset(6.0), "rubber track", rng))
    for half in pitch.halves(rng.uniform(0.45, 0.7), 3.0):
        cover = "artificial turf" if rng.uniform() < 0.65 else "grass"
        shapes.append(_fill(half, cover, rng))
        shapes.append(Shape(half.u, half.v, half.half_u, 0.5, MATERIALS.index("metal roof"), variant=0.3))
    return shapes


_BUILDERS: Dict[str, Callable[[_Block, np.random.Generator], List[Shape]]] = {
    "houses": _houses,
    "works": _works,
    "fields": _fields,
    "park": _park,
    "sports": _sports,
}
