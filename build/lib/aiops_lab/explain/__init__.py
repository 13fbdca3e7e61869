"""Why? The ledger, the deviations, the ranking of suspects and its confidence."""
