"""The guided tour: a shop, its support agent, the outside world as a real ledger, and eight scenes with claims."""
