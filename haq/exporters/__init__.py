"""Files of quantized networks that other tools execute, each verified before it is written."""
