"""The guestfs engine: edits made by a real kernel's filesystem drivers, in the appliance of libguestfs."""
