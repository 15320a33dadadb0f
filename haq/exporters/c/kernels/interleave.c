/* Copy the channels of each pixel to their place among more channels. */
HAQ_KERNEL static void haq_interleave(const int8_t *input, int32_t channels, int8_t *output, int32_t out_channels, int32_t pixels)
{
    for (int32_t pixel = 0; pixel < pixels; pixel++, input += channels, output += out_channels)
        memcpy(output, input, (size_t)channels);
}
