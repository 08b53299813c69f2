"""The mask head starts without an opinion."""

import math

import pytest
import torch
import torch.nn.functional as F
from mmdet.models.roi_heads.mask_heads import FCNMaskHead as HostFCNMaskHead

from halvit_mm.models.heads import FCNMaskHead
from tests.configs import built


@pytest.mark.parametrize('num_classes', [1, 80])
def test_the_loss_starts_at_log_2(num_classes):
    """Above maps whose entries have mean 0 and variance 1."""
    torch.manual_seed(0)
    features = torch.randn(2, 32, 7, 7)
    sizes = dict(in_channels=32, conv_out_channels=32, num_classes=num_classes)
    losses = {}
    for cls in (HostFCNMaskHead, FCNMaskHead):
        head = cls(**sizes)
        head.init_weights()
        logits = head(features)[:, 0]
        losses[cls] = F.binary_cross_entropy_with_logits(
            logits, torch.randint(2, logits.shape).float()
        ).item()
    assert losses[FCNMaskHead] == pytest.approx(math.log(2), abs=2e-3)
    if num_classes == 1:  # its standard deviation is sqrt(2 / classes)
        assert losses[HostFCNMaskHead] > 1


def test_names_are_the_hosts():
    ours, host = FCNMaskHead(), HostFCNMaskHead()
    assert ours.state_dict().keys() == host.state_dict().keys()


@pytest.mark.parametrize(
    'name', ['maskrcnn_halvit_t', 'maskrcnn_vit_s_dinov2']
)
def test_detectors_have_it(name):
    assert type(built(name).roi_head.mask_head) is FCNMaskHead
