"""The name, settings and facts of reward-modulated STDP, without JAX."""

from __future__ import annotations

from pydantic import Field

from neurai_core.plugin import Plugin
from neurai_core.references import cited
from neurai_core.specs import AlgorithmSpec, Config, Variant


class RewardSTDPConfig(Config):
    """Settings of reward-modulated STDP."""

    a_plus: float = Field(0.01, gt=0, description="size of the trace that a pair of spikes leaves, input first")
    a_minus: float = Field(0.01, gt=0, description="size of the trace that a pair of spikes leaves, output first")
    tau_plus: float = Field(5.0, gt=0, description="time constant of pairs with the input first, in steps")
    tau_minus: float = Field(5.0, gt=0, description="time constant of pairs with the output first, in steps")
    trials: int = Field(
        1,
        ge=1,
        le=1000,
        description="how often every example is shown, with its own draw of a rate code each time; the reward is "
        "compared with the mean over these, or over the batch if 1",
    )
    tau_trace: float = Field(25.0, gt=0, description="time constant of the eligibility trace, in steps")


reward_stdp = Plugin(
    AlgorithmSpec(
        name="reward-stdp",
        summary="Reward-modulated STDP: eligibility traces of pairs of spikes, times a reward at the end.",
        config=RewardSTDPConfig,
        needs="callable",
        claims=("local", "spiking"),
        variants=(Variant(settings={"trials": 2}, claims=("local", "spiking")),),
        defaults={
            "model": "snn:128,rate",
            "steps": 25,
            "surrogate": "superspike",
            "optimizer": "sgd",
            "lr": 0.5,
            "rule.trials": 4,
        },
        definition="neurai_algorithms.reward_stdp.equations:definition",
        references=cited(__name__, "izhikevich2007solving", "florian2007reinforcement", "fremaux2016neuromodulated"),
    ),
    "neurai_algorithms.reward_stdp.rule:build",
)
