"""What one guided step of the paper's network costs, against the published way.

The network has random weights and Houston 2018's second stage's bands, 12 in and 48 out. In every round each way
takes one step, so that only ratios within a round count. The largest difference is that of the network's two
predictions, with the condition and without, and of the guided one, each from the published way's; and of the guided
one from that in double precision. Memory is the peak of a process of its own that takes one step.

    python -m benchmarks.guided_step [--sizes 128 256] [--rounds 7] [--released FOLDER]

`--released` names a copy of the paper's authors' code, which is then run with the same weights.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import subprocess
import sys
import time
from typing import Callable, Dict, List, Optional

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.published_way import TwoPasses
from scdm_qgis.core.guidance import GuidedNetwork
from scdm_qgis.core.presets import PRESETS
from scdm_qgis.core.released_checkpoint import load_released_weights
from scdm_qgis.core.unet import UNet

BANDS, CONDITION_BANDS = 48, 12
TIMESTEP = 500
WEIGHT = 1.0
PUBLISHED, EXACT, BFLOAT16, RELEASED = (
    "published way, float32",
    "exact savings, float32",
    "exact savings, bfloat16",
    "released code, float32",
)

Step = Callable[[Tensor, Tensor, Tensor], Tensor]


def make_network() -> UNet:
    """Return the paper's network with random weights."""
    torch.manual_seed(0)
    return UNet(PRESETS["paper"].network, BANDS, CONDITION_BANDS).eval()


def make_step(name: str, network: UNet, weight: float, released: Optional[str]) -> Step:
    """Return a way to take a guided step."""
    if name == RELEASED and released is not None:
        return _released_step(network, weight, released)
    if name == PUBLISHED:
        return TwoPasses(network, weight)
    return GuidedNetwork(network, weight, bfloat16=name == BFLOAT16)


def _released_step(network: UNet, weight: float, folder: str) -> Step:
    sys.path.insert(0, folder)
    from ddpm.unet import UNet as Released  # type: ignore[import-not-found]

    config = PRESETS["paper"].network
    theirs = Released(
        BANDS,
        config.base_channels,
        config.channel_multipliers,
        time_emb_dim=4 * config.base_channels,
        activation=F.silu,
        attention_resolutions=config.attention_levels,
        input_channels=CONDITION_BANDS,
    ).eval()
    state = {key: value for key, value in theirs.state_dict().items() if not key.startswith("out_rgb.")}
    load_released_weights(network, state)

    def step(x_t: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        conditional, empty = theirs(x_t, condition, t), theirs(x_t, torch.zeros_like(condition), t)
        return conditional + weight * (conditional - empty)

    return step


def make_inputs(size: int) -> List[Tensor]:
    """Return a noisy sample, its timestep and a condition."""
    random = torch.Generator().manual_seed(1)
    x_t, condition = (torch.randn(1, bands, size, size, generator=random) for bands in (BANDS, CONDITION_BANDS))
    return [x_t, torch.tensor([TIMESTEP]), condition]


@torch.inference_mode()
def compare(size: int, rounds: int, released: Optional[str]) -> None:
    """Print how each way compares on a patch of `size` pixels a side."""
    network, inputs = make_network(), make_inputs(size)
    names = [PUBLISHED, EXACT, BFLOAT16, *([RELEASED] if released is not None else [])]
    steps = {name: make_step(name, network, WEIGHT, released) for name in reversed(names)}  # weights are loaded first
    differences: Dict[str, List[float]] = {name: [] for name in names}
    # Guidance by next to nothing and by -1 is the prediction with the condition, and without.
    for weight in (1e-9, -1.0, WEIGHT):
        expected = make_step(PUBLISHED, network, weight, released)(*inputs)
        for name in names:
            way = steps[name] if weight == WEIGHT else make_step(name, network, weight, released)
            differences[name].append(float((way(*inputs) - expected).abs().max()))
    double = TwoPasses(copy.deepcopy(network).double(), WEIGHT)(inputs[0].double(), inputs[1], inputs[2].double())
    errors = {name: float((step(*inputs) - double).abs().max()) for name, step in steps.items()}
    ratios: Dict[str, List[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        seconds = {name: _seconds(step, inputs) for name, step in steps.items()}
        for name, taken in seconds.items():
            ratios[name].append(seconds[PUBLISHED] / taken)
    print(
        f"\n| one guided step at {size} x {size} | times as fast (smallest to largest) | largest difference of the two "
        "predictions | of the guided one | of the guided one from float64 | peak memory, MiB |\n"
        "|---|---|---|---|---|---|"
    )
    for name in names:
        speed, (conditional, empty, guided) = ratios[name], differences[name]
        print(
            f"| {name} | {statistics.median(speed):.2f} ({min(speed):.2f} to {max(speed):.2f}) | "
            f"{max(conditional, empty):.1e} | {guided:.1e} | {errors[name]:.1e} | {_peak(name, size, released)} |",
            flush=True,
        )


def _seconds(step: Step, inputs: List[Tensor]) -> float:
    started = time.perf_counter()
    step(*inputs)
    return time.perf_counter() - started


def _peak(name: str, size: int, released: Optional[str]) -> str:
    """Return the peak memory of a process that takes one step."""
    command = [sys.executable, "-m", "benchmarks.guided_step", "--sizes", str(size), "--only", name]
    command += [] if released is None else ["--released", released]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@torch.inference_mode()
def _take_one(name: str, size: int, released: Optional[str]) -> None:
    make_step(name, make_network(), WEIGHT, released)(*make_inputs(size))
    # Not getrusage's, which begins with the peak of the process that started this one.
    with open("/proc/self/status", encoding="ascii") as status:
        print(next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) // 1024)


def main() -> None:
    """Compare at the sizes wanted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256], help="sides of the patches in pixels")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--released", help="folder of a copy of the released code")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    options = parser.parse_args()
    for size in options.sizes:
        if options.only is not None:
            _take_one(options.only, size, options.released)
        else:
            compare(size, options.rounds, options.released)


if __name__ == "__main__":
    main()
