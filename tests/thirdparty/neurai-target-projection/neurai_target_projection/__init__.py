"""Two rules in light words; the equations are in `rules` and `generative`."""

from __future__ import annotations

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.specs import AlgorithmSpec, Config, Reference, Relaxes


class DRTPConfig(Config):
    """Settings of direct random target projection."""

    scale: float = Field(1.0, gt=0, description="spread of the projections, in units of 1/sqrt(outputs of the network)")


class GenerativeFeedbackConfig(Config):
    """Settings of generative feedback."""

    weight: float = Field(0.01, ge=0, description="weight of the energy beside the loss")
    eta: float = Field(0.1, gt=0, description="step of the relaxation")
    n: int = Field(20, ge=1, le=10_000, description="steps of the relaxation")
    trace: bool = Field(False, description="report energy and residual of every step")


FRENKEL_2021 = Reference(
    title="Learning Without Feedback: Fixed Random Learning Signals Allow for Feedforward Training of Deep Neural "
    "Networks",
    authors="Frenkel, C. and Lefebvre, M. and Bol, D.",
    year=2021,
    doi="10.3389/fnins.2021.629892",
    arxiv="1909.01311",
    bibtex="""@article{frenkel2021learning,
  title   = {Learning Without Feedback: Fixed Random Learning Signals Allow for Feedforward Training of Deep Neural
             Networks},
  author  = {Frenkel, Charlotte and Lefebvre, Martin and Bol, David},
  journal = {Frontiers in Neuroscience},
  volume  = {15},
  pages   = {629892},
  year    = {2021},
  doi     = {10.3389/fnins.2021.629892}
}""",
)
RAO_1999 = Reference(
    title="Predictive coding in the visual cortex: a functional interpretation of some extra-classical "
    "receptive-field effects",
    authors="Rao, R. P. N. and Ballard, D. H.",
    year=1999,
    doi="10.1038/4580",
)

drtp = Plugin(
    AlgorithmSpec(
        name="drtp",
        summary="Direct random target projection: hidden layers learn from fixed random projections of the target.",
        config=DRTPConfig,
        needs="network",
        claims=("local", "stateful"),
        defaults={
            "model": "mlp:256,128,tanh"
        },  # bounded: nothing but saturation stops a value on its way to its target
        definition="neurai_target_projection.equations:definition",
        references=(FRENKEL_2021,),
    ),
    "neurai_target_projection.rules:build",
)

generative_feedback = Plugin(
    AlgorithmSpec(
        name="generative-feedback",
        summary="Back-propagation with layers that predict the ones below through the transposes of their weights.",
        config=GenerativeFeedbackConfig,
        needs="layered",
        claims=("generative", "energy"),
        relaxes=Relaxes(trace="trace", steps="n", size="eta"),
        references=(RAO_1999,),
    ),
    "neurai_target_projection.generative:build",
)
