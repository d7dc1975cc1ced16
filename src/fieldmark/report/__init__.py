"""A page of sections as one self-contained HTML file. Knows no domain."""
