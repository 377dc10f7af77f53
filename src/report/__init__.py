"""What a reader sees: style, charts, tables, the summary page."""
