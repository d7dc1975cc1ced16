"""How good an answer is: counts first, ratios last, a baseline beside every number."""
