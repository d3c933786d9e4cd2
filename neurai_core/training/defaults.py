"""What a run takes where nobody says otherwise: the only plugins that the core names.

They are names like any other, looked up when a run starts.
"""

RULE = "pc"
DATA = "digits"
SPIKING_RULE = "bp"  # of a spiking network
SURROGATE = "superspike"  # of a spiking network
