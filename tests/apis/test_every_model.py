"""Every model of the zoo trains, and its weights survive a file."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from halvit_mm.apis import load_config
from halvit_mm.apis.fake_data import fake_batch
from halvit_mm.apis.model_info import build_model

from ..commands import ROOT

PRETRAINING = sorted((ROOT / 'configs' / 'pretrain').glob('*.py'))
SIZE = (64, 64)  # pixels; position embeddings are interpolated


@pytest.mark.parametrize(
    'path', [pytest.param(path, id=path.stem) for path in PRETRAINING]
)
def test_a_step_and_a_file(path, tmp_path):
    cfg = load_config(str(path), read_data=False)
    model = build_model(cfg)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    before = {k: v.clone() for k, v in model.named_parameters()}
    data = model.train().data_preprocessor(fake_batch(cfg, SIZE, 2), True)
    loss, _ = model.parse_losses(model(**data, mode='loss'))
    wrapper.update_params(loss)
    assert torch.isfinite(loss)
    # Not all: behind a norm that starts at zero nothing moves yet.
    moved = [k for k, v in model.named_parameters() if (v != before[k]).any()]
    assert len(moved) > 0.5 * len(before)

    state = model.state_dict()
    del model, wrapper, loss, before, moved, data  # a gigabyte of ViT-B
    file = tmp_path / 'model.safetensors'
    save_file(state, file)  # refuses a weight that has two names
    twin = build_model(cfg)
    twin.load_state_dict(load_file(file))
    assert_close(twin.state_dict(), state, rtol=0, atol=0)
