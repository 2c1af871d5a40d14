"""Adapters to other people's libraries, each imported only when it is asked for."""
