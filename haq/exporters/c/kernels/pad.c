/* Add rows, columns and channels of one code around an image. */
struct haq_padding {
    int16_t in_height, in_width, in_channels, out_height, out_width, out_channels, top, left, front, code;
};

HAQ_KERNEL static void haq_pad(const struct haq_padding *p, const int8_t *input, int8_t *output)
{
    memset(output, p->code, (size_t)(p->out_height * p->out_width * p->out_channels));
    for (int32_t y = 0; y < p->in_height; y++)
        for (int32_t x = 0; x < p->in_width; x++, input += p->in_channels)
            memcpy(output + ((y + p->top) * p->out_width + x + p->left) * p->out_channels + p->front, input,
                   (size_t)p->in_channels);
}
