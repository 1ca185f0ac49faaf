"""Report: a `Report` in; Markdown, pages and pictures out. The only place that knows rendering."""
