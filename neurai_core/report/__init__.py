"""What people look at: tables for the terminal and pictures for the run's folder."""
