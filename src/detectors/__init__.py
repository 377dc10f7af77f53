"""The networks: models, training, scoring, explanations, robustness."""
