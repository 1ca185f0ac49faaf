"""The gateway's HTTP: routes and protocol in front, upstream requests behind, and reading the answers between them."""
