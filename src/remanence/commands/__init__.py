"""The verbs: each validates, then appends facts. Command line, HTTP and Python all call these."""
