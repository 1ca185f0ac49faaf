"""What operators read of a gateway and ask it for: metrics, the request log, traces, readiness, spend."""
