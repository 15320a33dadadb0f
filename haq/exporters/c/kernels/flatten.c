/* Change the order of an image from pixels first to channels first. */
HAQ_KERNEL static void haq_flatten(const int8_t *input, int8_t *output, int32_t pixels, int32_t channels)
{
    for (int32_t channel = 0; channel < channels; channel++)
        for (int32_t pixel = 0; pixel < pixels; pixel++)
            *output++ = input[pixel * channels + channel];
}
