"""Pages: a report as Markdown and as one self-contained page of HTML."""
