"""Instructions of exported layers on an emulated Cortex-M7, as a table that can be used as a device."""
