HAQ_KERNEL static void haq_max_pool(const struct haq_pool *p, const int8_t *input, int8_t *output)
{
    for (int32_t out_y = 0; out_y < p->out_height; out_y++) {
        const struct haq_range rows = haq_inside(out_y * p->stride_y - p->top, p->kernel_height, p->in_height);
        for (int32_t out_x = 0; out_x < p->out_width; out_x++, output += p->channels) {
            const struct haq_range columns = haq_inside(out_x * p->stride_x - p->left, p->kernel_width, p->in_width);
            memset(output, -128, (size_t)p->channels);
            for (int32_t y = rows.first; y < rows.end; y++)
                for (int32_t x = columns.first; x < columns.end; x++) {
                    const int8_t *from = input + (y * p->in_width + x) * p->channels;
                    for (int32_t at = 0; at < p->channels; at++)
                        output[at] = from[at] > output[at] ? from[at] : output[at];
                }
        }
    }
}
