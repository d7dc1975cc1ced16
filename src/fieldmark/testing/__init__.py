"""Contract suites and small drawn data with known truth, shipped so that authors of plug-ins can use them."""
