"""Records of requests and replies; they import nothing of loqal but its errors."""
