"""Days and spans of the calendar."""
