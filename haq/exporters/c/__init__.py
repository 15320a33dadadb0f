"""Networks as C99 without dependencies, and the compilers and emulators that check and measure them."""
