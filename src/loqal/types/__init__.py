"""Records of requests and replies. They import nothing of loqal but its errors."""
