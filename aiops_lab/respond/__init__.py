"""What is done about an incident? Notices to people, and remedies."""
