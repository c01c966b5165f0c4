"""Where and how precisely the network computes."""

from __future__ import annotations

import time

import torch

from scdm_qgis.core.errors import UserError

WORTHWHILE_SPEED_UP = 1.2
"""bfloat16 costs digits, so it must be this much faster; well above what timings vary by."""


def choose_device(name: str) -> torch.device:
    """Return the device the user asked for; `auto` takes CUDA, then MPS, then the CPU.

    Raises:
        UserError: a device this machine, or this build of torch, does not have.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    if name.startswith("cuda") and not cuda:
        reason = (
            "this torch is built for the CPU only" if torch.version.cuda is None else "no usable CUDA GPU was found"
        )
        raise UserError(
            f"DEVICE {name} cannot be used: {reason}.", "Choose auto or cpu, or install a torch built for your GPU."
        )
    if name.startswith("cuda:") and int(name[5:]) >= torch.cuda.device_count():
        raise UserError(
            f"DEVICE {name} does not exist: this machine has {torch.cuda.device_count()} CUDA GPUs.",
            "Choose cuda:0 or auto.",
        )
    if name == "mps" and not mps:
        raise UserError("DEVICE mps cannot be used: this machine has no Apple GPU.", "Choose auto or cpu.")
    return torch.device(name)


def choose_bfloat16(precision: str, device: torch.device) -> bool:
    """Return whether the network computes in bfloat16; `auto` does so where the device is faster at it.

    Processors that have instructions for it may still be slower with them, so a processor is asked by
    timing a convolution: on one thread, as batches of tiles are computed.
    """
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not torch.cpu._is_avx512_bf16_supported():
        return False
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _convolution_seconds(torch.float32) > WORTHWHILE_SPEED_UP * _convolution_seconds(torch.bfloat16)
    finally:
        torch.set_num_threads(threads)


@torch.inference_mode()
def _convolution_seconds(dtype: torch.dtype) -> float:
    """Return the shortest of several times a convolution like the networks' takes."""
    layout = torch.channels_last if dtype == torch.bfloat16 else torch.contiguous_format  # as the networks'
    layer = torch.nn.Conv2d(64, 64, 3, padding=1, dtype=dtype).to(memory_format=layout)  # type: ignore[call-overload]
    features = torch.zeros(8, 64, 32, 32, dtype=dtype).contiguous(memory_format=layout)
    seconds = []
    for _ in range(6):
        started = time.perf_counter()
        layer(features)
        seconds.append(time.perf_counter() - started)
    return min(seconds)
