"""Surrogate derivatives that ship with NeurAI: their specs by family, free of JAX; the mathematics is in ``shapes``.

``smooth`` holds bells without a kink, ``peaks`` those with a kink at the threshold, ``windows`` those with bounded
support, ``rectifiers`` those that do not vanish above the threshold, ``counts`` those that do not fire by the step.

In every formula u is the membrane potential minus the threshold. ``area`` and ``support`` are Python
expressions in the settings and u, so that programs can evaluate them. Claims: ``unimodal`` (never negative,
highest at the threshold, falling on both sides), ``signed`` (takes both signs), ``unit-area``, ``compact``
(bounded support), ``drawn`` (spikes are random, every call takes a key), ``counted`` (more than one spike per step).
"""
