"""Constraints on a reply: which tokens may come next, from schemas, grammars, tools and reasoning budgets."""
