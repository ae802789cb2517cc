"""What a run leaves: its folder, checkpoints, history, console lines and event files."""
