"""Ways to reach the workbench: the command line; later a page and a notebook. A face holds no rule."""
