"""The shop over real HTTP, in this process."""
