/* Pixels of an output row whose windows lie between the left and the right border of the input. */
struct haq_span {
    int32_t first, end;
};

static struct haq_span haq_middle(const struct haq_product *p)
{
    const int32_t last = p->in_width - 1 - (p->kernel_width - 1) * p->dilation_x + p->left;
    struct haq_span span;
    span.first = (p->left + p->stride_x - 1) / p->stride_x;
    span.end = last < 0 ? 0 : last / p->stride_x + 1;
    span.end = span.end > p->out_width ? p->out_width : span.end;
    span.first = span.first > span.end ? span.end : span.first;
    return span;
}

/* Add the products with up to three columns of a filter to the sums of pixels that are `step` apart in the input. */
static void haq_add_columns(int32_t *sums, int32_t count, const int8_t *from, int32_t step, int32_t right,
                            const int8_t *codes, int32_t columns)
{
    const int32_t first = codes[0], second = columns > 1 ? codes[1] : 0, third = columns > 2 ? codes[2] : 0;
    const int32_t to_second = columns > 1 ? right : 0, to_third = columns > 2 ? 2 * right : 0;
    const int8_t *next = from + step;
    for (int32_t *const end = sums + (count & ~1); sums != end; sums += 2, from += 2 * step, next += 2 * step) {
        sums[0] += from[0] * first + from[to_second] * second + from[to_third] * third;
        sums[1] += next[0] * first + next[to_second] * second + next[to_third] * third;
    }
    if (count & 1)
        *sums += from[0] * first + from[to_second] * second + from[to_third] * third;
}

/* Add the products with a row of a filter at a pixel; beside the input lie codes of zero. */
static int32_t haq_border_sum(const struct haq_product *p, const int8_t *row, int32_t x, const int8_t *codes)
{
    int32_t sum = 0;
    for (int32_t column = 0; column < p->kernel_width; column++, x += p->dilation_x)
        sum += codes[column] * (x >= 0 && x < p->in_width ? row[x * p->in_channels] : p->in_zero);
    return sum;
}

/* Add the products with a row of a filter to the sums of an output row. */
static void haq_add_row(const struct haq_product *p, const int8_t *row, const int8_t *codes, struct haq_span middle,
                        int32_t *sums)
{
    const int32_t right = p->dilation_x * p->in_channels, step = p->stride_x * p->in_channels;
    for (int32_t at = 0; at < middle.first; at++)
        sums[at] += haq_border_sum(p, row, at * p->stride_x - p->left, codes);
    for (int32_t at = middle.end; at < p->out_width; at++)
        sums[at] += haq_border_sum(p, row, at * p->stride_x - p->left, codes);
    if (middle.first == middle.end)
        return;
    row += (middle.first * p->stride_x - p->left) * p->in_channels;
    for (int32_t column = 0; column < p->kernel_width; column += 3)
        haq_add_columns(sums + middle.first, middle.end - middle.first, row + column * right, step, right,
                        codes + column, p->kernel_width - column);
}

/* Compute the sums of an output row of a channel. */
static void haq_row_sums(const struct haq_product *p, const int8_t *input, int32_t y, const int8_t *codes,
                         struct haq_span middle, int32_t *sums)
{
    int32_t outside = 0;
    for (int32_t at = 0; at < p->out_width; at++)
        sums[at] = 0;
    for (int32_t row = 0; row < p->kernel_height; row++, y += p->dilation_y, codes += p->kernel_width)
        if (y >= 0 && y < p->in_height)
            haq_add_row(p, input + y * p->in_width * p->in_channels, codes, middle, sums);
        else
            for (int32_t column = 0; column < p->kernel_width; column++)
                outside += codes[column] * p->in_zero;
    if (outside != 0)
        for (int32_t at = 0; at < p->out_width; at++)
            sums[at] += outside;
}

/* Convolution of each channel with a filter of its own. `scratch` has room for the sums of a row and the codes of a
 * filter. */
HAQ_KERNEL static void haq_depthwise(const struct haq_product *p, const int8_t *input, int8_t *output, int32_t *scratch)
{
    const int32_t size = p->kernel_height * p->kernel_width, width = p->out_width;
    const struct haq_span middle = haq_middle(p);
    int8_t *codes = (int8_t *)(scratch + width);
    for (int32_t channel = 0; channel < p->in_channels; channel++, input++) {
        int8_t *to = output + channel;
        p->unpack(p->weights, channel * size, size, codes);
        for (int32_t row = 0; row < p->out_height; row++, to += width * p->out_channels) {
            haq_row_sums(p, input, row * p->stride_y - p->top, codes, middle, scratch);
            haq_requantize(p, channel, 0, scratch, width, to, p->out_channels);
        }
    }
}
