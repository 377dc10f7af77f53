"""What scores are worth: metrics, results, comparisons, audit, leaks, PCA."""
