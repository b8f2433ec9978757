"""Mutation fuzzing of everything that reads bytes from outside: no input may do more than be refused."""
