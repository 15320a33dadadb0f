/* Copy every n-th pixel. */
HAQ_KERNEL static void haq_subsample(const int8_t *input, int32_t width, int32_t channels, int32_t stride_y, int32_t stride_x,
                          int8_t *output, int32_t out_height, int32_t out_width)
{
    for (int32_t y = 0; y < out_height; y++)
        for (int32_t x = 0; x < out_width; x++, output += channels)
            memcpy(output, input + (y * stride_y * width + x * stride_x) * channels, (size_t)channels);
}
