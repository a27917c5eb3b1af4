"""Pictures: pure functions from numbers to Pillow images and matplotlib figures; nothing here reads or writes files."""
