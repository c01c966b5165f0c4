"""What a GPU makes of sampling: the share of its peak that the network reaches, and seconds a megapixel by way.

The peak is the rate of a large bfloat16 matrix product measured on the same GPU. The network has random weights
and Houston 2018's second stage's bands, 12 in and 48 out, and stands for both stages. Guided steps are timed, and
multiplied by the steps a way takes. Last, a guided draw runs with every wait of the host for the GPU an error.

    python -m benchmarks.gpu_sampling [--device cuda] [--preset paper] [--pixels 1048576]
"""

from __future__ import annotations

import argparse
import statistics
import time
from functools import partial
from typing import Callable, Dict, List, Tuple

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.guided_step import BANDS, BFLOAT16, CONDITION_BANDS, EXACT, PUBLISHED, TIMESTEP, WEIGHT, make_step
from scdm_qgis.core.cascade import Stage
from scdm_qgis.core.cascade_header import SAMPLERS, Condition, ScheduleConfig, StageHeader, Truncation
from scdm_qgis.core.guidance import GuidedNetwork
from scdm_qgis.core.noise import PlacedNoise
from scdm_qgis.core.presets import PRESETS
from scdm_qgis.core.reconstruction import StageSampler, settings_for
from scdm_qgis.core.unet import UNet

SIZES = (256, 512)
MATRIX = 8192
ROUNDS = 7


def seconds_of(run: Callable[[], object], device: torch.device) -> float:
    """Return the median time of several runs after one to warm up."""
    times = []
    for _ in range(ROUNDS + 1):
        _wait(device)
        started = time.perf_counter()
        run()
        _wait(device)
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_rate(device: torch.device) -> float:
    """Return the FLOP a second of a bfloat16 matrix product."""
    side = MATRIX if device.type == "cuda" else MATRIX // 8
    a = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    return 2 * side**3 / seconds_of(lambda: a @ a, device)


def flop_of_pass(preset: str, size: int) -> int:
    """Return the FLOP of one pass of one patch."""
    with torch.device("meta"):
        network = UNet(PRESETS[preset].network, BANDS, CONDITION_BANDS).eval()
        images = [torch.empty(1, bands, size, size) for bands in (BANDS, CONDITION_BANDS)]
        with FlopCounterMode(display=False) as counter:
            network(images[0], torch.zeros(1, dtype=torch.long), images[1])
    return int(counter.get_total_flops())


def make_inputs(count: int, size: int, device: torch.device) -> List[Tensor]:
    """Return noisy samples, their timesteps and conditions."""
    x_t, condition = (torch.randn(count, bands, size, size, device=device) for bands in (BANDS, CONDITION_BANDS))
    return [x_t, torch.full((count,), TIMESTEP, device=device), condition]


def print_shares(preset: str, network: UNet, pixels: int, device: torch.device) -> None:
    """Print the share of the peak that passes in bfloat16 reach."""
    peak = peak_rate(device)
    print(f"\nPeak: {peak / 1e12:.1f} TFLOP/s in bfloat16.\n\n| tile | TFLOP/s | share of the peak |\n|---|---|---|")
    once = GuidedNetwork(network, 0.0, bfloat16=True)
    for size in SIZES:
        count = max(1, pixels // size**2)
        inputs = make_inputs(count, size, device)
        rate = count * flop_of_pass(preset, size) / seconds_of(partial(once, *inputs), device)
        print(f"| {size} x {size}, {count} at once | {rate / 1e12:.2f} | {rate / peak:.1%} |", flush=True)


def print_ways(network: UNet, pixels: int, device: torch.device) -> None:
    """Print seconds a megapixel of two stages, and the memory a batch takes, by way to sample."""
    size = SIZES[0]
    count = max(1, pixels // size**2)
    inputs = make_inputs(count, size, device)
    once = GuidedNetwork(network, 0.0, bfloat16=True)
    bfloat16 = make_step(BFLOAT16, network, WEIGHT, None)
    ways: Dict[str, Tuple[Callable[..., Tensor], int]] = {
        "1000 + 1000 guided steps, published way, float32": (make_step(PUBLISHED, network, WEIGHT, None), 2000),
        "the same with exact savings, float32": (make_step(EXACT, network, WEIGHT, None), 2000),
        "the same with exact savings, bfloat16": (bfloat16, 2000),
        "20 + 20 guided steps, exact savings, bfloat16": (bfloat16, 40),
        "posterior mean, 1 + 1 passes, bfloat16": (once, 2),
    }
    print(f"\n| way, tiles of {size} x {size} | seconds a megapixel | peak memory, MiB |\n|---|---|---|")
    for name, (step, steps) in ways.items():
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        seconds = steps * seconds_of(partial(step, *inputs), device) * 1e6 / (count * size**2)
        memory = f"{torch.cuda.max_memory_allocated(device) / 2**20:.0f}" if device.type == "cuda" else "-"
        print(f"| {name} | {seconds:.3g} | {memory} |", flush=True)


def draw_without_waiting(network: UNet, preset: str, device: torch.device) -> None:
    """Draw with every sampler, guided and truncated, while a wait of the host raises an error."""
    header = StageHeader(
        index=1,
        of=1,
        bands=tuple(range(1, BANDS + 1)),
        wavelengths_nm=None,
        fwhm_nm=None,
        condition=Condition(tuple(range(1, CONDITION_BANDS + 1)), ()),
        network=PRESETS[preset].network,
        patch_size=64,
        prediction="velocity",
        schedule=ScheduleConfig.of_timesteps(50),
        sampler="ddim",
        steps=5,
        guidance_weight=WEIGHT,
        truncation=Truncation(0.9),
        second_moment=1.0,
    )
    stage = Stage(header, network, None)
    condition = torch.randn(2, CONDITION_BANDS, 64, 64, device=device)
    noise = PlacedNoise(0, 1, 0, [(0, 0), (0, 64)], BANDS, 64, 64, device)
    for sampler in SAMPLERS:
        sample = StageSampler(stage, settings_for(header, True, sampler), bfloat16=True)
        sample(sample.see(condition), noise)
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("error")
        try:
            sample(sample.see(condition), noise)
        finally:
            if device.type == "cuda":
                torch.cuda.set_sync_debug_mode("default")
        print(f"{sampler}: drawn without a wait.")


@torch.inference_mode()
def main() -> None:
    """Print shares, ways and whether the loop waits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--preset", default="paper", choices=PRESETS)
    parser.add_argument("--pixels", type=int, default=2**20, help="of a batch")
    options = parser.parse_args()
    device = torch.device(options.device)
    torch.manual_seed(0)
    network = UNet(PRESETS[options.preset].network, BANDS, CONDITION_BANDS).eval().to(device)
    print_shares(options.preset, network, options.pixels, device)
    print_ways(network, options.pixels, device)
    draw_without_waiting(network, options.preset, device)


if __name__ == "__main__":
    main()
