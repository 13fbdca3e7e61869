"""What happened? Spans recorded from running services, and the store that keeps them."""
