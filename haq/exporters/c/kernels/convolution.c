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

/* Where the window of an output pixel begins in the input. */
struct haq_position {
    int32_t y, x, column;
};

static void haq_advance(const struct haq_product *p, struct haq_position *at)
{
    at->x += p->stride_x;
    if (++at->column == p->out_width) {
        at->column = 0;
        at->x = -p->left;
        at->y += p->stride_y;
    }
}

/* Find the codes of a window: in the input where they lie in rows there, else copied to `patch`.
 * `step` is the distance between rows. */
static const int8_t *haq_window(const struct haq_product *p, const int8_t *input, const struct haq_position *at,
                                int8_t *patch, int32_t *step)
{
    if (at->y >= 0 && at->x >= 0 && at->y + (p->kernel_height - 1) * p->dilation_y < p->in_height &&
        at->x + (p->kernel_width - 1) * p->dilation_x < p->in_width && p->groups == 1 && p->dilation_x == 1) {
        *step = p->in_width * p->in_channels * p->dilation_y;
        return input + (at->y * p->in_width + at->x) * p->in_channels;
    }
    *step = p->kernel_width * (p->in_channels / p->groups);
    haq_copy_window(p, input, at->y, at->x, patch);
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

/* Compute a block of filters at all pixels, two at a time. */
static void haq_pixels(const struct haq_product *p, int32_t filter, int32_t filters, const int8_t *input,
                       int8_t *output, const int32_t *words, int8_t *patches)
{
    const int32_t size = p->kernel_height * p->kernel_width * (p->in_channels / p->groups);
    struct haq_position position = {-p->top, -p->left, 0};
    output += filter;
    for (int32_t left = p->out_height * p->out_width; left > 0; left -= 2, output += 2 * p->out_channels) {
        int32_t sums[8] = {0, 0, 0, 0, 0, 0, 0, 0}, steps[2];
        const int8_t *const a = haq_window(p, input, &position, patches, steps);
        const int8_t *b = a;
        haq_advance(p, &position);
        if (left > 1) {
            b = haq_window(p, input, &position, patches + size, steps + 1);
            haq_advance(p, &position);
        } else
            steps[1] = steps[0];
        p->dot(p, a, b, steps, words, sums);
        for (int32_t at = 0; at < filters; at++)
            haq_requantize(p, filter + at, sums + at, p->filters, left > 1 ? 2 : 1, output + at);
    }
}

/* `scratch` has room for a block of filters in words and for two windows. */
static void haq_convolution(const struct haq_product *p, const int8_t *input, int8_t *output, int32_t *scratch)
{
    const int32_t channels = p->in_channels / p->groups;
    const int32_t size = p->kernel_height * p->kernel_width * channels;
    const int32_t group = p->out_channels / p->groups;
    int32_t filters;
    for (int32_t filter = 0; filter < p->out_channels; filter += filters) {
        filters = group - filter % group < p->filters ? group - filter % group : p->filters;
        haq_unpack_words(p, filter, filters, size, scratch);
        haq_pixels(p, filter, filters, input + filter / group * channels, output, scratch,
                   (int8_t *)(scratch + size * (p->filters / 2)));
    }
}
