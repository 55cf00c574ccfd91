"""The published APIs, each whole in its folder. None knows another."""
