"""What the commands do without a project: from other systems' configurations, and from a model folder and images."""
