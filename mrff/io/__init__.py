"""Files that survive a crash, and downloads."""
