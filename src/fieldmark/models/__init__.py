"""Networks: torch modules that the registry in `fieldmark.recipes.registry` names."""
