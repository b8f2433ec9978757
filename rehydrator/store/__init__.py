"""The store: where a dehydrated release lives. docs/store.md describes its layout."""
