"""What policies cost: on one device layer by layer, and on devices that they were not made for."""
