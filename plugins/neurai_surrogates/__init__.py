"""Surrogate derivatives that ship with NeurAI.

``specs`` holds the settings and spec of each surrogate, free of JAX, with its formulas g(u) and P(u). ``shapes`` holds
its code, in a file of the same name. Adding one takes these two files and a line in ``pyproject.toml``; papers are in
``references.bib``. Tests find it by its entry point, and hold the code to the formulas.

In every formula u is the membrane potential minus the threshold. ``area`` and ``support`` are Python
expressions in the settings and u, so that programs can evaluate them. Claims: ``unimodal`` (never negative,
highest at the threshold, falling on both sides), ``signed`` (takes both signs), ``unit-area``, ``compact``
(bounded support), ``drawn`` (spikes are random, every call takes a key), ``counted`` (more than one spike per step).
"""
