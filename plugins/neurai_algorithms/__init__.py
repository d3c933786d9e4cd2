"""Learning rules that ship with NeurAI: a folder for each, and what several of them share."""
