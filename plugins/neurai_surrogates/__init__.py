"""Surrogate derivatives that ship with NeurAI.

Each has a folder: ``spec.py`` holds its settings and spec, free of JAX, with the formulas g(u) and P(u) and the area;
``shape.py`` holds its code, and the facts that the spec does not state. Adding one takes this folder and a line in
``pyproject.toml``; papers are in ``references.bib``. Tests find it there, and hold the code to the formulas.

In every formula u is the membrane potential minus the threshold. ``area`` and ``support`` are Python
expressions in the settings and u, so that programs can evaluate them. Claims: ``unimodal`` (never negative,
highest at the threshold, falling on both sides), ``signed`` (takes both signs), ``unit-area``, ``compact``
(bounded support), ``drawn`` (spikes are random, every call takes a key), ``counted`` (more than one spike per step).
"""
