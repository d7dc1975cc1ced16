"""Labels as files: markers, label maps, scribble images, and tables of answers and points. Read and written alike."""
