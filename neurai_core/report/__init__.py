"""Tables for the terminal and pictures for the run's folder."""
