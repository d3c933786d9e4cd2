"""Surrogate derivatives that ship with NeurAI.

``specs`` holds the settings and spec of each surrogate, free of JAX, and ``shapes`` its mathematics, in a file of the
same name. Adding one takes these two files and a line in ``pyproject.toml``; papers are in ``references.bib``.

In every formula u is the membrane potential minus the threshold. ``area`` and ``support`` are Python
expressions in the settings and u, so that programs can evaluate them. Claims: ``unimodal`` (never negative,
highest at the threshold, falling on both sides), ``signed`` (takes both signs), ``unit-area``, ``compact``
(bounded support), ``drawn`` (spikes are random, every call takes a key), ``counted`` (more than one spike per step).
"""
