"""Where bars and calendars come from; each source yields raw rows plus what it refused."""
