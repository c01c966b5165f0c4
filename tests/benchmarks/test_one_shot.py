import numpy as np
import pytest

from benchmarks.baselines.hscnn_plus import HscnnPlus
from benchmarks.baselines.mst_plus_plus import MstPlusPlus
from benchmarks.baselines.one_shot import train_one_shot
from benchmarks.baselines.regression_unet import RegressionUNet
from benchmarks.baselines.residual_cnn import ResidualCnn
from benchmarks.scenes import Pixels

NODATA = -32768.0


def scene(nodata=NODATA):
    """Return 45 x 38 pixels of 5 bands, a corner of them nodata."""
    random = np.random.default_rng(0)
    values = random.uniform(100, 900, (5, 45, 38)).astype(np.float32)
    valid = np.ones((45, 38), bool)
    valid[:10, :15] = False
    values[:, ~valid] = nodata
    return Pixels(values, valid, (3, 2, 0))


@pytest.mark.parametrize(
    "network, over_ridge",
    [(RegressionUNet, False), (HscnnPlus, False), (MstPlusPlus, False), (ResidualCnn, True)],
)
def test_nodata_does_not_reach_the_valid_pixels(network, over_ridge):
    model, iterations = train_one_shot(network, over_ridge, [scene()], 0.2, seed=0)
    assert iterations > 0
    one, other = (model.predict(scene(nodata)) for nodata in (NODATA, 1e6))
    valid = scene().valid
    assert one.shape == (5, 45, 38)
    assert np.isfinite(one[:, valid]).all() and np.ptp(one[:, valid]) > 0
    assert np.array_equal(one[:, valid], other[:, valid])
