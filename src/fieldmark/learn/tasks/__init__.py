"""What gradient descent minimizes, one file a task."""
