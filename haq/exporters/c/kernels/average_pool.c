/* Mean of the codes of a channel, rounded to nearest with halves away from zero. */
static int8_t haq_mean(const struct haq_pool *p, const int8_t *input, struct haq_range rows, struct haq_range columns)
{
    const int32_t count = (rows.end - rows.first) * (columns.end - columns.first);
    int32_t sum = 0;
    for (int32_t y = rows.first; y < rows.end; y++)
        for (int32_t x = columns.first; x < columns.end; x++)
            sum += input[(y * p->in_width + x) * p->channels];
    return (int8_t)((sum > 0 ? sum + count / 2 : sum - count / 2) / count);
}

HAQ_KERNEL static void haq_average_pool(const struct haq_pool *p, const int8_t *input, int8_t *output)
{
    for (int32_t out_y = 0; out_y < p->out_height; out_y++) {
        const struct haq_range rows = haq_inside(out_y * p->stride_y - p->top, p->kernel_height, p->in_height);
        for (int32_t out_x = 0; out_x < p->out_width; out_x++) {
            const struct haq_range columns = haq_inside(out_x * p->stride_x - p->left, p->kernel_width, p->in_width);
            for (int32_t channel = 0; channel < p->channels; channel++)
                *output++ = haq_mean(p, input + channel, rows, columns);
        }
    }
}
