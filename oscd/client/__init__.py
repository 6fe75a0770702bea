"""The client side of oscd: calls any node over HTTP. See DESIGN.md."""
