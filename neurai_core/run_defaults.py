"""Default plugins of a run: the only plugins that the core names.

They are ordinary names, looked up when a run starts.
"""

RULE = "pc"
DATA = "digits"
SPIKING_RULE = "bp"  # of a spiking network
SURROGATE = "superspike"  # of a spiking network
STOPPER = "early-stopping"  # the observer that --stop-early asks for
