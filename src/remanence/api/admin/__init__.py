"""The native faces under `/admin/v1`; `face` puts them together."""
