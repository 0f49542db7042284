"""From the object back into a database: its members, dealt to sessions that load side by side."""
