"""Where and how precisely the network computes."""

from __future__ import annotations

import torch

from scdm_qgis.core.errors import UserError


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
    """Return whether the network computes in bfloat16; `auto` does so where the device has units for it."""
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
