"""Three rules in light words; the equations are in `rules`, `on_networks` and `generative`."""

from __future__ import annotations

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.specs import AlgorithmSpec, Config, Reference, Relaxes


class FeedbackAlignmentConfig(Config):
    """Settings of feedback alignment."""

    scale: float = Field(
        1.0, gt=0, description="spread of the feedback weights, in units of that of the forward weights"
    )


class DirectFeedbackAlignmentConfig(Config):
    """Settings of direct feedback alignment."""

    scale: float = Field(
        1.0, gt=0, description="spread of the feedback weights, in units of 1/sqrt(outputs of the network)"
    )


class GenerativeFeedbackConfig(Config):
    """Settings of generative feedback."""

    weight: float = Field(0.01, ge=0, description="weight of the energy beside the loss")
    eta: float = Field(0.1, gt=0, description="step of the relaxation")
    n: int = Field(20, ge=1, le=10_000, description="steps of the relaxation")
    trace: bool = Field(False, description="report energy and residual of every step")


LILLICRAP_2016 = Reference(
    title="Random synaptic feedback weights support error backpropagation for deep learning",
    authors="Lillicrap, T. P. and Cownden, D. and Tweed, D. B. and Akerman, C. J.",
    year=2016,
    doi="10.1038/ncomms13276",
    bibtex="""@article{lillicrap2016random,
  title   = {Random synaptic feedback weights support error backpropagation for deep learning},
  author  = {Lillicrap, T. P. and Cownden, D. and Tweed, D. B. and Akerman, C. J.},
  journal = {Nature Communications},
  volume  = {7},
  pages   = {13276},
  year    = {2016},
  doi     = {10.1038/ncomms13276}
}""",
)
NOKLAND_2016 = Reference(
    title="Direct Feedback Alignment Provides Learning in Deep Neural Networks",
    authors="Nøkland, A.",
    year=2016,
    arxiv="1609.01596",
    bibtex=r"""@inproceedings{nokland2016direct,
  title         = {Direct Feedback Alignment Provides Learning in Deep Neural Networks},
  author        = {N{\o}kland, A.},
  booktitle     = {Advances in Neural Information Processing Systems},
  volume        = {29},
  year          = {2016},
  eprint        = {1609.01596},
  archivePrefix = {arXiv}
}""",
)

RAO_1999 = Reference(
    title="Predictive coding in the visual cortex: a functional interpretation of some extra-classical "
    "receptive-field effects",
    authors="Rao, R. P. N. and Ballard, D. H.",
    year=1999,
    doi="10.1038/4580",
)

feedback_alignment = Plugin(
    AlgorithmSpec(
        name="feedback-alignment",
        summary="Feedback alignment: back-propagation through fixed random weights, layer by layer.",
        config=FeedbackAlignmentConfig,
        needs="network",
        claims=("local", "stateful"),
        definition="neurai_feedback_alignment.equations:definition",
        references=(LILLICRAP_2016,),
    ),
    "neurai_feedback_alignment.rules:build_feedback_alignment",
)

direct_feedback_alignment = Plugin(
    AlgorithmSpec(
        name="direct-feedback-alignment",
        summary="Direct feedback alignment: fixed random weights from the output to every hidden layer.",
        config=DirectFeedbackAlignmentConfig,
        needs="layered",
        claims=("local", "stateful"),
        references=(NOKLAND_2016,),
    ),
    "neurai_feedback_alignment.rules:build_direct_feedback_alignment",
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
    "neurai_feedback_alignment.generative:build",
)
