"""Which plain loop trains the model of which plug-in."""

from __future__ import annotations

from bench.reference.acgan import plain_acgan
from bench.reference.cgan import plain_cgan
from bench.reference.cgan_seed import plain_seed_cgan
from bench.reference.classifiers import plain_classifier
from bench.reference.dcgan import plain_dcgan
from bench.reference.flows import plain_cascade, plain_coarse_flow
from bench.reference.parts import ReferenceLoop
from bench.reference.wgan_gp import plain_wgan_gp
from cxrbench_baselines.classifiers.net import NetClassifier
from cxrbench_baselines.generators.acgan import ACGAN
from cxrbench_baselines.generators.cgan import CGAN
from cxrbench_baselines.generators.cgan_seed import SeedCGAN
from cxrbench_baselines.generators.dcgan import DCGAN
from cxrbench_baselines.generators.flow import Flow
from cxrbench_baselines.generators.flow_quilt import FlowQuilt
from cxrbench_baselines.generators.pca_flow import PCAFlow
from cxrbench_baselines.generators.wgan_gp import WGANGP

GENERATOR_LOOPS: dict[type, ReferenceLoop] = {
    ACGAN: plain_acgan,
    CGAN: plain_cgan,
    DCGAN: plain_dcgan,
    Flow: plain_cascade,
    FlowQuilt: plain_coarse_flow,
    PCAFlow: plain_cascade,
    SeedCGAN: plain_seed_cgan,
    WGANGP: plain_wgan_gp,
}
OWN_LOOP = ("setup", "training_step")  # a classifier that overrides one of these no longer trains as its base does


def reference_loop(plugin_class: type) -> ReferenceLoop | None:
    """The plain loop that trains the model of this class, or None where nobody has written one.

    A generator's loop builds the nets of exactly one class. A classifier's takes its net from ``build``, so it
    serves every ``NetClassifier`` that trains as its base class does.
    """
    if issubclass(plugin_class, NetClassifier):
        changed = any(getattr(plugin_class, name) is not getattr(NetClassifier, name) for name in OWN_LOOP)
        return None if changed else plain_classifier
    return GENERATOR_LOOPS.get(plugin_class)
