"""What the commands of marker-based filter learning do, on folders and files instead of a project."""
