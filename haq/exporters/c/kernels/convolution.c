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

/* Find the codes under the kernel at an output pixel: in the input where they lie in rows there, else in `patch`.
 * `step` is the distance between rows. */
static const int8_t *haq_window(const struct haq_product *p, const int8_t *input, int32_t pixel, int8_t *patch,
                                int32_t *step)
{
    const int32_t y = pixel / p->out_width * p->stride_y - p->top;
    const int32_t x = pixel % p->out_width * p->stride_x - p->left;
    if (y >= 0 && x >= 0 && y + (p->kernel_height - 1) * p->dilation_y < p->in_height &&
        x + (p->kernel_width - 1) * p->dilation_x < p->in_width && p->groups == 1 && p->dilation_x == 1) {
        *step = p->in_width * p->in_channels * p->dilation_y;
        return input + (y * p->in_width + x) * p->in_channels;
    }
    *step = p->kernel_width * (p->in_channels / p->groups);
    haq_copy_window(p, input, y, x, patch);
    return patch;
}

/* Unpack a block of filters: each word holds the codes of two filters for the same input. */
static void haq_unpack_words(const struct haq_product *p, int32_t filter, int32_t filters, int32_t size, int32_t *words)
{
    const int32_t pairs = p->filters / 2;
    int8_t *codes = (int8_t *)(words + size * pairs) - size * p->filters; /* the upper half: words overtake no codes */
    const int32_t field = p->filters == 4 ? INT32_C(1) << 16 : INT32_C(1) << 23;
    if (filters < p->filters) {
        for (int32_t at = 0; at < size; at++)
            for (int32_t each = 0; each < p->filters; each++)
                if (each < filters)
                    p->unpack(p->weights, filter * size + at * filters + each, 1, codes + at * p->filters + each);
                else
                    codes[at * p->filters + each] = 0;
    } else
        p->unpack(p->weights, filter * size, filters * size, codes);
    for (int32_t at = 0; at < size * pairs; at++) {
        const int32_t word = codes[0] + codes[1] * field;
        codes += 2;
        words[at] = word;
    }
}

/* Compute a block of filters at one or two pixels. */
static void haq_pixels(const struct haq_product *p, const int8_t *const windows[2], const int32_t steps[2],
                       const int32_t *words, int32_t *sums)
{
    const int8_t *a = windows[0], *b = windows[1];
    const int32_t length = p->kernel_width * (p->in_channels / p->groups);
    for (int32_t at = 0; at < 2 * p->filters; at++)
        sums[at] = 0;
    for (int32_t row = 0; row < p->kernel_height; row++, a += steps[0], b += steps[1])
        for (int32_t at = 0; at < length; at += p->period) {
            const int32_t count = length - at < p->period ? length - at : p->period;
            p->dot(a + at, b + at, words, count, sums);
            words += count * (p->filters / 2);
        }
}

/* `scratch` has room for a block of filters in words and for two windows. */
static void haq_convolution(const struct haq_product *p, const int8_t *input, int8_t *output, int32_t *scratch)
{
    const int32_t size = p->kernel_height * p->kernel_width * (p->in_channels / p->groups);
    const int32_t group = p->out_channels / p->groups;
    const int32_t pixels = p->out_height * p->out_width;
    int8_t *patches = (int8_t *)(scratch + size * (p->filters / 2));
    int32_t filters;
    for (int32_t filter = 0; filter < p->out_channels; filter += filters) {
        const int8_t *from = input + filter / group * (p->in_channels / p->groups);
        filters = group - filter % group < p->filters ? group - filter % group : p->filters;
        haq_unpack_words(p, filter, filters, size, scratch);
        for (int32_t pixel = 0; pixel < pixels; pixel += 2) {
            int32_t sums[8], steps[2];
            const int8_t *windows[2];
            const int32_t count = pixel + 1 < pixels ? 2 : 1;
            windows[0] = haq_window(p, from, pixel, patches, steps);
            windows[1] = haq_window(p, from, pixel + count - 1, patches + size, steps + 1);
            haq_pixels(p, windows, steps, scratch, sums);
            for (int32_t each = 0; each < count; each++)
                for (int32_t at = 0; at < filters; at++)
                    output[(pixel + each) * p->out_channels + filter + at] =
                        haq_requantize(p, filter + at, sums[each * p->filters + at]);
        }
    }
}
