/* Copy the codes under the kernel to `to`; those outside of the image are the code of zero. */
static void haq_copy_window(const struct haq_product *p, const int8_t *input, int32_t y, int32_t x, int8_t *to)
{
    const int32_t channels = p->in_channels / p->groups;
    for (int32_t row = 0; row < p->kernel_height; row++) {
        const int32_t in_y = y + row * p->dilation_y;
        for (int32_t column = 0; column < p->kernel_width; column++, to += channels) {
            const int32_t in_x = x + column * p->dilation_x;
            if (in_y < 0 || in_y >= p->in_height || in_x < 0 || in_x >= p->in_width)
                memset(to, p->in_zero, (size_t)channels);
            else
                memcpy(to, input + (in_y * p->in_width + in_x) * p->in_channels, (size_t)channels);
        }
    }
}

/* The window of an output pixel, and what all windows of a convolution have in common. */
struct haq_walk {
    int32_t y, x, offset, column; /* first row, column and code in the input, column of the output */
    int32_t y_end, x_end;         /* end of the windows that lie in the input, if there are any */
    int32_t step, patch_step;     /* distances between rows */
};

static void haq_begin_row(const struct haq_product *p, struct haq_walk *at, int32_t y)
{
    at->y = y;
    at->x = -p->left;
    at->offset = (y * p->in_width + at->x) * p->in_channels;
    at->column = 0;
}

static void haq_begin(const struct haq_product *p, struct haq_walk *at)
{
    const int is_dense = p->groups == 1 && p->dilation_x == 1;
    at->y_end = is_dense ? p->in_height - (p->kernel_height - 1) * p->dilation_y : 0;
    at->x_end = p->in_width - p->kernel_width + 1;
    at->step = p->in_width * p->in_channels * p->dilation_y;
    at->patch_step = p->row;
    haq_begin_row(p, at, -p->top);
}

/* Return the codes of the window and go on to the next. Windows that do not lie in the input are copied to `patch`. */
static const int8_t *haq_next(const struct haq_product *p, const int8_t *input, struct haq_walk *at, int8_t *patch,
                              int32_t *step)
{
    const int8_t *window = patch;
    if (at->y >= 0 && at->x >= 0 && at->y < at->y_end && at->x < at->x_end) {
        window = input + at->offset;
        *step = at->step;
    } else {
        haq_copy_window(p, input, at->y, at->x, patch);
        *step = at->patch_step;
    }
    at->x += p->stride_x;
    at->offset += p->stride_x * p->in_channels;
    if (++at->column == p->out_width)
        haq_begin_row(p, at, at->y + p->stride_y);
    return window;
}

/* Unpack a block of up to four filters. Each word holds the codes of two filters for the same input: for both pairs one
 * after the other in narrow fields, first all of one pair in wide fields. */
static void haq_unpack_words(const struct haq_product *p, int32_t filter, int32_t filters, int32_t *words)
{
    const int32_t size = p->kernel_height * p->row, field = INT32_C(1) << p->field;
    const int32_t step = p->field == 16 ? 2 : 1, second = p->field == 16 ? 1 : size;
    const int8_t *codes = (int8_t *)(words + size); /* words overtake no codes */
    int8_t *const to = (int8_t *)(words + size);
    if (filters == 4)
        p->unpack(p->weights, filter * size, 4 * size, to);
    else {
        memset(to, 0, (size_t)(4 * size));
        for (int32_t at = 0; at < size; at++)
            p->unpack(p->weights, filter * size + at * filters, filters, to + 4 * at);
    }
    for (int32_t *const end = words + step * size; words != end; words += step, codes += 4) {
        const int32_t first_pair = codes[0] + codes[1] * field, second_pair = codes[2] + codes[3] * field;
        words[0] = first_pair;
        words[second] = second_pair;
    }
}

/* Compute a block of filters at all pixels, two at a time. */
static void haq_pixels(const struct haq_product *p, int32_t filter, int32_t filters, const int8_t *input,
                       int8_t *output, const int32_t *words, int8_t *patches)
{
    const int32_t size = p->kernel_height * p->row;
    const int32_t channels = p->out_channels;
    struct haq_walk at;
    haq_begin(p, &at);
    output += filter;
    for (int32_t left = p->out_height * p->out_width; left > 0; left -= 2, output += 2 * channels) {
        int32_t sums[8], steps[2];
        const int8_t *const a = haq_next(p, input, &at, patches, steps);
        const int8_t *b = a;
        steps[1] = steps[0];
        if (left > 1)
            b = haq_next(p, input, &at, patches + size, steps + 1);
        p->dot(p, a, b, steps, words, sums);
        haq_requantize(p, filter, 1, sums, filters, output, 1);
        if (left > 1)
            haq_requantize(p, filter, 1, sums + 4, filters, output + channels, 1);
    }
}

/* `scratch` has room for a block of filters in words and for two windows. */
HAQ_KERNEL static void haq_convolution(const struct haq_product *p, const int8_t *input, int8_t *output, int32_t *scratch)
{
    const int32_t channels = p->in_channels / p->groups, group = p->out_channels / p->groups;
    int8_t *const patches = (int8_t *)(scratch + 2 * p->kernel_height * p->row);
    int32_t filters;
    for (int32_t filter = 0; filter < p->out_channels; filter += filters) {
        filters = group - filter % group < 4 ? group - filter % group : 4;
        haq_unpack_words(p, filter, filters, scratch);
        haq_pixels(p, filter, filters, input + filter / group * channels, output, scratch, patches);
    }
}
