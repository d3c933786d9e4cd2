"""The rule of Kolen and Pollack."""
