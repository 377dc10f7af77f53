"""What scores are worth: metrics, the tables of results, comparisons, the audit of files and pixels, PCA."""
