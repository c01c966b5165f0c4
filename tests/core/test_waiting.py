"""While a stage is sampled, the host never waits for the device.

A wait in every step would leave a GPU idle while the host prepares the next one. The stage runs on torch's
`meta` device: like on a GPU, its tensors are elsewhere and their values are not known to the host.
"""

from dataclasses import replace

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from scdm_qgis.core.cascade_header import SAMPLERS, ScheduleConfig, Truncation
from scdm_qgis.core.noise import PlacedNoise
from scdm_qgis.core.reconstruction import StageSampler, settings_for

STEPS = 4
OFF = Truncation()
READS = {"_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "masked_select"}
"""Operations whose result depends on values, so that the host must have them."""

BY_VALUE = {"tensor", "as_tensor", "asarray", "from_numpy"}
"""Functions that copy values from the host, which torch's dispatcher does not see."""


class WaitError(Exception):
    """The host waited for the device."""


class NoValues(TorchFunctionMode):
    """Raise WaitError where values become a tensor."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if getattr(function, "__name__", None) in BY_VALUE:
            raise WaitError(function.__name__)
        return function(*args, **(kwargs or {}))


class NoWaiting(TorchDispatchMode):
    """Raise WaitError where the host reads a value, or copies to the device or from it."""

    def __init__(self):
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        self.operations += 1
        name = function.overloadpacket.__name__
        inputs = [value for value in tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)]
        by_mask = name.startswith("index") and any(value.dtype == torch.bool for value in inputs[1:])
        places = {value.device.type for value in inputs} | {torch.device(kwargs.get("device") or "meta").type}
        if name in READS or by_mask or places != {"meta"}:
            raise WaitError(name)
        return function(*args, **kwargs)


@pytest.fixture
def sample(make_stage):
    """Return a function that samples a stage on the device and returns how many operations that took.

    `change` is done to every x_t the network sees.
    """

    def run(sampler="ddim", truncation=OFF, prediction="residual", bfloat16=False, change=lambda x_t: x_t):
        stage = make_stage(2, prediction=prediction, untrained_output=True)
        stage.header = replace(stage.header, schedule=ScheduleConfig.of_timesteps(STEPS))
        stage.network.first_noisy.register_forward_pre_hook(lambda _, inputs: change(*inputs))
        settings = settings_for(stage.header, True, sampler, STEPS, guidance_weight=0.5, truncation=truncation)
        sampling = StageSampler(stage.to("meta"), settings, bfloat16)
        condition = torch.zeros(2, stage.header.condition.count, 8, 8, device="meta")
        noise = PlacedNoise(0, 2, 0, [(0, 0), (0, 8)], len(stage.header.bands), 8, 8, "meta")
        with NoValues(), NoWaiting() as watched:
            sampling(sampling.see(condition), noise)
        return watched.operations

    return run


@pytest.mark.parametrize("prediction", ["noise", "residual"])
@pytest.mark.parametrize("target", ["state", "noise"])
@pytest.mark.parametrize("threshold", ["schedule", "sample"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_host_never_waits_for_the_device(sample, sampler, threshold, target, prediction):
    assert sample(sampler, Truncation(0.9, target, threshold), prediction) > 100 * STEPS


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_nor_does_it_with_a_network_in_bfloat16(sample, sampler):
    assert sample(sampler, bfloat16=True) > 100 * STEPS


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x * x.mean().item(),
        lambda x: x * float(x.abs().max()),
        lambda x: x if x.isfinite().all() else -x,
        lambda x: x[x > 0],
        lambda x: x * x.nonzero().shape[0],
        lambda x: x.cpu().to("meta"),
        lambda x: x * torch.ones(()).to("meta"),
        lambda x: x * torch.tensor([1.0, 2.0], device="meta")[:, None, None, None],
    ],
    ids=["item", "float", "if", "mask", "nonzero", "to the host", "from the host", "from a list"],
)
def test_every_kind_of_wait_is_noticed(sample, change):
    with pytest.raises(WaitError):
        sample(change=change)
