"""What Fieldmark claims, measured beside a named peer in the same run; see RESULTS.md."""
