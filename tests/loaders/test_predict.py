"""Modules of PyTorch as models of `predict`."""

import numpy as np
import torch

import ndzarr
from helpers.arrays import photo


def test_a_module_gets_tensors_of_the_type_of_its_parameters(tmp_path):
    original = photo(100, 130)
    sampler = ndzarr.Sampler({"a": ndzarr.transcode(original, tmp_path / "a.zarr")})
    model = torch.nn.Conv2d(3, 2, 1, bias=False).double().eval()
    found = sampler.predict(model, tmp_path / "out.zarr", window=(64, 64), channels=["a", "b"])
    assert found.dtype == np.float64
    weight = model.weight.detach().numpy()[:, :, 0, 0]
    np.testing.assert_allclose(found.read(), np.einsum("oc,yxc->oyx", weight, original), rtol=1e-9, atol=1e-9)
