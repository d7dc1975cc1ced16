"""Other systems' configuration files, read into our recipes at the edge."""
